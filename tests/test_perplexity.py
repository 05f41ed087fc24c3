"""Perplexity against the loss that transformers itself gives, on the bundled model and a tiny one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.errors import RunError
from ragtune.evaluation.metrics.perplexity import Perplexity, cut_windows, measure_perplexity, total_perplexity
from ragtune.models.bundled import bundled_folder

TEXT = "Net sales 2021: 4,210\nNet sales 2020: 3,900\nAnswer: $4,210 million"
CONTEXT = "<|begin|><|user|>\nQuestion: What were net sales in 2021?<|end|><|assistant|>\n"


@pytest.fixture(scope="module")
def loaded():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(bundled_folder(), dtype=torch.float64).eval()
    return model, AutoTokenizer.from_pretrained(bundled_folder())


def loss_of(model, ids: list[int], first: int) -> float:
    """The mean loss over ids from ``first`` on, as transformers computes it from labels."""
    import torch

    labels = torch.tensor([[-100] * first + ids[first:]])
    with torch.inference_mode():
        return float(model(input_ids=torch.tensor([ids]), labels=labels).loss)


def test_without_context_as_transformers_own_loss(loaded) -> None:
    model, tokenizer = loaded
    ids = [tokenizer.bos_token_id, *tokenizer(TEXT, add_special_tokens=False)["input_ids"]]
    (found,) = measure_perplexity(model, tokenizer, [TEXT])
    assert found.mean_nll == pytest.approx(loss_of(model, ids, 1), rel=1e-6)  # theirs is summed in float32
    assert found.tokens == len(ids) - 1
    assert found.perplexity == pytest.approx(math.exp(loss_of(model, ids, 1)), rel=1e-5)
    assert found.bits_per_character == pytest.approx(found.nll / math.log(2) / len(TEXT), abs=1e-9)


def test_to_a_billionth_of_the_definition(loaded) -> None:
    """-ln p of each token by softmax in float64, added up by hand."""
    import torch

    model, tokenizer = loaded
    ids = [tokenizer.bos_token_id, *tokenizer(TEXT, add_special_tokens=False)["input_ids"]]
    with torch.inference_mode():
        chances = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)
    expected = -sum(math.log(float(chances[i - 1, ids[i]])) for i in range(1, len(ids)))
    (found,) = measure_perplexity(model, tokenizer, [TEXT])
    assert found.nll == pytest.approx(expected, rel=1e-9)


def test_a_context_is_read_and_not_scored(loaded) -> None:
    model, tokenizer = loaded
    before, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (CONTEXT, TEXT))
    assert before[0] == tokenizer.bos_token_id
    with_context, without = (measure_perplexity(model, tokenizer, [TEXT], contexts)[0] for contexts in ([CONTEXT], [""]))
    assert with_context.tokens == len(ids)
    assert with_context.mean_nll == pytest.approx(loss_of(model, before + ids, len(before)), rel=1e-6)
    assert with_context.nll != pytest.approx(without.nll, abs=1e-3)


def test_strides_as_written_out_by_hand(loaded) -> None:
    """Windows of 16 tokens, 10 apart: each part's loss from transformers, weighted by the tokens it scores."""
    model, tokenizer = loaded
    ids = [tokenizer.bos_token_id, *tokenizer(TEXT * 2, add_special_tokens=False)["input_ids"]]
    total, scored = 0.0, 1
    for begin in range(0, len(ids), 10):
        end = min(begin + 16, len(ids))
        total += loss_of(model, ids[begin:end], scored - begin) * (end - scored)
        scored = end
        if end == len(ids):
            break
    (found,) = measure_perplexity(model, tokenizer, [TEXT * 2], window=16, stride=10)
    assert found.tokens == len(ids) - 1
    assert found.nll == pytest.approx(total, rel=1e-6)
    assert found.nll > measure_perplexity(model, tokenizer, [TEXT * 2])[0].nll  # less is read before each token


@given(length=st.integers(2, 200), first=st.integers(1, 199), window=st.integers(2, 50), stride=st.integers(1, 49))
def test_windows_score_each_token_once_and_always_after_another(length: int, first: int, window: int, stride: int) -> None:
    stride, first = min(stride, window - 1), min(first, length - 1)
    places = []
    for begin, end, scored in cut_windows(length, first, window, stride):
        assert end - begin <= window
        assert scored > begin
        assert scored - begin >= min(first, window - stride)
        places += range(scored, end)
    assert places == list(range(first, length))


def test_texts_sum_up_by_tokens() -> None:
    total = total_perplexity([Perplexity(2.0, 2, 10), Perplexity(4.0, 4, 10)])
    assert total.perplexity == pytest.approx(math.e)
    assert Perplexity(5000.0, 1, 1).perplexity == math.inf


def test_bad_input_is_said(loaded) -> None:
    model, tokenizer = loaded
    for arguments, said in (
        ({"texts": ["a", ""]}, "text 2, '', has no token"), ({"texts": ["a"], "contexts": []}, "0 contexts for 1 texts"),
        ({"texts": ["a"], "window": 4, "stride": 4}, "stride of at least 1"),
        ({"texts": ["a"], "window": 9999}, "2 to 2048"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=said):
            measure_perplexity(model, tokenizer, **arguments)
    with pytest.raises(RunError, match="no texts"):
        total_perplexity([])


def test_a_model_that_gives_nan_is_said(tmp_path) -> None:
    import torch
    from tiny_model import make_tiny_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_tiny_model(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.bos_token_id is None
    (found,) = measure_perplexity(model, tokenizer, ["Net sales"])  # the first token is read only
    assert found.tokens == len(tokenizer("Net sales")["input_ids"]) - 1
    model.model.norm.weight.data[:] = torch.nan
    with pytest.raises(RunError, match="gives nan for text 1"):
        measure_perplexity(model, tokenizer, ["Net sales"])
