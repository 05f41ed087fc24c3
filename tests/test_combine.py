"""Several adapters of one base: merged by weight into one run, and switched request by request."""

from __future__ import annotations

import gc
import json

import pytest
from tiny_model import make_adapter, make_tiny_model

from ragtune.cli.main import ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.errors import ModelError, RunError
from ragtune.files import building_folder, write_manifest
from ragtune.models.checkpoint import fingerprint_model
from ragtune.models.language import TransformersGenerator, open_generator
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator
from ragtune.records import Message
from ragtune.training.exporting.combine import WAYS, combine_adapters
from ragtune.training.run import open_run

PROMPTS = [[Message(role="user", content=f"[1] Item {n} 2021: 4,21{n}\n\nQuestion: What was item {n}?")] for n in range(3)]


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    return Generator(model=str(make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")), device="cpu", max_new_tokens=8)


def make_run(folder, section, seed, r=4, **changes):
    """Write a run folder whose adapter is random."""
    import torch
    from peft import LoraConfig, get_peft_model

    with building_folder(folder) as partial:
        torch.manual_seed(seed)
        settings = {"r": r, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False, **changes}
        get_peft_model(load_base(section), LoraConfig(**settings)).save_pretrained(str(partial / "adapter"))
        (partial / "metrics.jsonl").touch()
        write_manifest(partial, "run", id=f"run{seed}", base_model="tiny", base_fingerprint=fingerprint_model(section.model),
                       prompt_hash="p", index_id="i", training={"method": "lora"})
    return open_run(folder)


@pytest.fixture(scope="module")
def runs(section, tmp_path_factory):
    work = tmp_path_factory.mktemp("runs")
    return [make_run(work / "a", section, 1), make_run(work / "b", section, 2, use_rslora=True),
            make_run(work / "c", section, 3, r=2, target_modules=["q_proj", "v_proj"])]


def updates_of(section, adapter):
    """Return what an adapter adds to each matrix of the base."""
    base = open_generator(section).model.state_dict()
    tuned = open_generator(section, adapter=adapter).model.state_dict()
    return {name: tuned[name] - base[name] for name in base if "proj" in name}


def test_a_stack_is_the_exact_weighted_sum_of_all_kinds_of_ranks(section, runs, tmp_path):
    weights = (0.75, -0.5, 1.5)
    combined = combine_adapters(section, runs, weights, tmp_path / "all")
    assert (combined.rank, combined.way) == (10, "cat")
    found = updates_of(section, tmp_path / "all" / "adapter")
    parts = [updates_of(section, run.adapter) for run in runs]
    for name, update in found.items():
        wanted = sum(weight * part[name] for weight, part in zip(weights, parts))
        assert (update - wanted).abs().max() < 1e-5
        assert wanted.abs().max() > 1e-3
    opened = open_run(tmp_path / "all")
    assert [part["run"] for part in opened.manifest["merged_from"]] == ["run1", "run2", "run3"]
    assert opened.manifest["prompt_hash"] == "p"
    names = sorted(str(path.relative_to(opened.folder)) for path in opened.folder.rglob("*") if path.is_file())
    assert names == ["README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "manifest.json",
                     "metrics.jsonl"]
    config = (opened.adapter / "adapter_config.json").read_text()
    assert section.model not in config
    assert "| run2 | lora | -0.5 |" in (opened.folder / "README.md").read_text()


def test_svd_of_full_rank_is_the_sum_and_of_a_smaller_one_its_best_approximation(section, runs, tmp_path):
    import torch

    wanted = updates_of(section, combine_adapters(section, runs[:2], (1, 1), tmp_path / "sum") and tmp_path / "sum/adapter")
    full = combine_adapters(section, runs[:2], (1, 1), tmp_path / "full", "svd", rank=8)
    small = combine_adapters(section, runs[:2], (1, 1), tmp_path / "small", "svd")
    assert (full.rank, small.rank) == (8, 4)
    exact, near = (updates_of(section, tmp_path / name / "adapter") for name in ("full", "small"))
    for name, update in wanted.items():
        assert (exact[name] - update).abs().max() < 1e-4
        left = torch.linalg.svdvals(update)[4:].square().sum().sqrt()
        assert (near[name] - update).norm() == pytest.approx(float(left), rel=1e-2)


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_makes_a_run_that_answers(section, runs, tmp_path, way):
    density = 0.5 if WAYS[way].has_density else None
    first = combine_adapters(section, runs[:2], (0.5, 0.5), tmp_path / "one", way, density=density, seed=3)
    again = combine_adapters(section, runs[:2], (0.5, 0.5), tmp_path / "two", way, density=density, seed=3)
    assert first.id == again.id
    base = open_generator(section)
    tuned = open_generator(section, adapter=tmp_path / "one" / "adapter")
    assert (tuned.logits(PROMPTS[0]) - base.logits(PROMPTS[0])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": (1,)}, "found 1 weights for 2 runs"),
        ({"weights": (1, 0)}, "finite numbers other than 0"),
        ({"weights": (1, float("nan"))}, "finite numbers"),
        ({"way": "tie"}, "Did you mean 'ties'"),
        ({"way": "ties"}, "found density None for 'ties'"),
        ({"density": 0.5}, "found density 0.5 for 'cat'"),
        ({"way": "dare_ties", "density": 1.5}, "A share above 0 and up to 1"),
        ({"rank": 3}, "found rank 3 for 'cat'"),
        ({"pick": (0, 2), "way": "linear"}, "must have one rank; found 4, 2"),
        ({"pick": (0,), "weights": (1,)}, "found 1 runs to merge"),
    ],
)
def test_a_merge_that_cannot_be_is_refused_before_anything_is_written(section, runs, tmp_path, given, message):
    given = {"pick": (0, 1), "weights": (1, 1), **given}
    chosen = [runs[place] for place in given.pop("pick")]
    with pytest.raises(RunError, match=message):
        combine_adapters(section, chosen, given.pop("weights"), tmp_path / "out", **given)
    assert not list(tmp_path.iterdir())


def test_adapters_of_another_base_or_kind_are_refused(section, runs, tmp_path):
    other = section.model_copy(update={"model": str(make_tiny_model(tmp_path / "other", seed=7))})
    with pytest.raises(RunError, match="tuned with base model"):
        combine_adapters(other, runs[:2], (1, 1), tmp_path / "out")
    dora = make_run(tmp_path / "dora", section, 4, use_dora=True)
    with pytest.raises(RunError, match="holds DoRA; merged by weight are LoRA"):
        combine_adapters(section, [runs[0], dora], (1, 1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_merges_runs(section, runs, tmp_path, capsys):
    import yaml

    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"generator": section.model_dump(mode="json")}))
    given = ["merge-adapters", "--recipe", str(tmp_path / "r.yaml"), "--run", str(runs[0].folder), "--run",
             str(runs[1].folder), "--weight", "0.7", "--weight", "0.3", "--out", str(tmp_path / "out"), "--json"]
    assert run_guarded(ragtune, given) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == [0.7, 0.3]
    assert run_guarded(ragtune, [*given[:5], *given[9:]]) == 1
    assert "Name two or more" in capsys.readouterr().err


@pytest.mark.parametrize("is_merging", [True, False])
def test_adapters_are_switched_per_request_and_nothing_grows(section, tmp_path, monkeypatch, is_merging):
    """Three adapters and the base in turns, in one process: as merged copies of a small model, or beside the weights."""
    import torch

    if not is_merging:
        monkeypatch.setattr("ragtune.models.language.SMALL", 0)
    adapters = [None, *(make_adapter(tmp_path / str(seed), section.model, seed) for seed in range(3))]
    alone = [open_generator(section, adapter=adapter).generate(PROMPTS, 8) for adapter in adapters]
    assert len({tuple(answers) for answers in alone}) == 4
    generator = open_generator(section)
    assert isinstance(generator, TransformersGenerator)

    def held():
        gc.collect()
        tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())

    sizes = []
    for turn in range(12):
        place = (turn * 3) % 4 if turn % 2 else (turn + 1) % 4
        with generator.with_adapter(adapters[place]) as switched:
            assert switched.generate(PROMPTS, 8) == alone[place]
        sizes.append(held())
    assert generator.generate(PROMPTS, 8) == alone[0]
    rows = [(prompt, place) for place in (2, 0, 3, 1) for prompt in range(3)]
    together = generator.generate_each([PROMPTS[p] for p, _ in rows], [adapters[place] for _, place in rows], 8)
    assert together == [alone[place][p] for p, place in rows]
    with pytest.raises(ModelError, match="found 1 adapters for 3 prompts"):
        generator.generate_each(PROMPTS, [None], 8)
    assert set(sizes[8:]) == {sizes[-1]}
