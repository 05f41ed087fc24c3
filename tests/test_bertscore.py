"""BERTScore against the package bert-score, on the bundled encoder."""

import pytest
from tiny_model import make_tokenizer

from ragtune.errors import ModelError, RunError
from ragtune.evaluation.metrics.bertscore import BertScorer, Tokens, match_tokens, score_bertscore
from ragtune.models.embed import minilm_folder

ANSWERS = ["Net sales were $4,210 million.", "The margin fell.", "yes", "It rose [SEP] twice", "operating income"]
REFERENCES = ["Net sales amounted to $4.2 billion", "Gross margin fell by 1.2 points", "Yes.", "It fell", "op. income"]


@pytest.mark.parametrize("layer", [6, 3])
def test_as_the_package(layer: int) -> None:
    """To 1e-6: bert-score weighs tokens in float32 and pads what it compares."""
    bert_score = pytest.importorskip("bert_score", reason="the reference bert-score is not installed")
    theirs = bert_score.BERTScorer(model_type=str(minilm_folder()), num_layers=layer, device="cpu")
    theirs._model.double()
    expected = theirs.score(ANSWERS, REFERENCES)
    ours = BertScorer("minilm", layer)
    ours.model.double()
    found = ours.score(ANSWERS, REFERENCES)
    for name, column in zip(("precision", "recall", "f1"), expected):
        assert [getattr(one, name) for one in found] == pytest.approx(column.tolist(), abs=1e-6)


def test_the_matching_as_the_packages() -> None:
    """To 1e-9, where both get the same vectors and weights in float64."""
    utils = pytest.importorskip("bert_score.utils", reason="the reference bert-score is not installed")
    import torch

    torch.manual_seed(0)
    said, wanted = torch.rand(1, 7, 16, dtype=torch.float64), torch.rand(1, 5, 16, dtype=torch.float64)
    counted = [torch.tensor([False] + [True] * (n - 2) + [False]) for n in (7, 5)]
    expected = utils.greedy_cos_idf(wanted.clone(), torch.ones(1, 5), counted[1].double()[None],
                                    said.clone(), torch.ones(1, 7), counted[0].double()[None])
    unit = [torch.nn.functional.normalize(side[0], dim=-1) for side in (said, wanted)]
    found = match_tokens(Tokens(unit[0], counted[0]), Tokens(unit[1], counted[1]))
    assert (found.precision, found.recall, found.f1) == pytest.approx([float(value) for value in expected], abs=1e-9)


def test_batches_give_what_single_texts_give() -> None:
    scorer = BertScorer("minilm")
    together = scorer.score(ANSWERS, REFERENCES)
    alone = [scorer.score([a], [r])[0] for a, r in zip(ANSWERS, REFERENCES)]
    assert [one.f1 for one in together] == pytest.approx([one.f1 for one in alone], abs=1e-5)


def test_empty_texts_score_nothing_and_the_best_reference_counts() -> None:
    found = score_bertscore(["", "sales rose", "sales rose"], ["sales", "", ["tyres", "sales rose"]])
    assert found == pytest.approx([0.0, 0.0, 1.0], abs=1e-5)


def test_bad_input_is_said(tmp_path) -> None:
    with pytest.raises(ModelError, match="Allowed: 0 to 6"):
        BertScorer("minilm", 7)
    with pytest.raises(ModelError, match="cannot be loaded for BERTScore"):
        BertScorer(str(tmp_path))
    with pytest.raises(RunError, match="1 answers and 2 references"):
        score_bertscore(["a"], ["a", "b"])


def test_any_encoder(tmp_path) -> None:
    """A byte-level encoder of another family, with random weights: equal texts meet fully, others less."""
    from transformers import RobertaConfig, RobertaModel

    make_tokenizer(tmp_path)
    config = RobertaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                           max_position_embeddings=64, pad_token_id=0, initializer_range=0.5)
    RobertaModel(config).save_pretrained(tmp_path)
    scorer = BertScorer(str(tmp_path), 1)
    same, other = scorer.score(["Net sales 2021", "Net sales 2021"], ["Net sales 2021", "Total assets [1]"])
    assert same.f1 == pytest.approx(1.0, abs=1e-5)
    assert other.f1 < 0.99
    assert scorer.max_tokens == 62
