"""The drawn curve holds each measure's line, is the same for the same points, and says in words what it shows."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

from ragtune.training.curve import describe_curve, draw_curve, write_curve

POINTS = [
    {"step": 0, "eval_loss": 2.5},
    *({"step": step, "loss": 2.5 / (1 + step / 20), "learning_rate": 1e-3 * (1 - step / 100)} for step in range(1, 100)),
    {"step": 25, "accuracy": 0.25}, {"step": 50, "accuracy": 0.625}, {"step": 75, "accuracy": 0.5},
    {"step": 100, "eval_loss": 0.75},
]
SVG = "{http://www.w3.org/2000/svg}"


def texts_of(svg):
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_measure_has_its_panel():
    svg = draw_curve(POINTS)
    texts = texts_of(svg)
    assert {"loss", "accuracy", "learning rate", "optimizer step", "training rows", "test rows"} <= set(texts)
    assert any(text.startswith("62") for text in texts)  # the best, written beside its point
    assert "reward" not in texts
    assert svg == draw_curve(POINTS)
    assert {"reward", "KL"} <= set(texts_of(draw_curve([{"step": 1, "reward": -0.5, "kl": 0.1, "loss": 1.0}])))


def test_it_says_in_words_what_it_shows():
    assert describe_curve(POINTS) == ("Learning curve: loss of training rows from 2.38 to 0.42, loss of test rows from "
                                      "2.5 to 0.75, accuracy (held-out answers) from 0.25 to 0.5")


def test_a_folder_without_measures_gets_no_drawing(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_curve(tmp_path)
    assert not (tmp_path / "curve.svg").exists()
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in POINTS))
    write_curve(tmp_path)
    assert (tmp_path / "curve.svg").read_text() == draw_curve(POINTS)
