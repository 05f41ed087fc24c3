"""Query expansion: what every expander keeps, what each adds, and that no aid, reply or question breaks a search."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragtune.errors import RecipeError
from ragtune.recipe.schema import Recipe
from ragtune.records import Message
from ragtune.retrieval.dense import search_dense
from ragtune.retrieval.expand import EXPANDERS, MAX_VARIANTS, Tools, Variant, expand, find_variants, plain
from ragtune.retrieval.feedback import feed_back_terms, feed_back_vector
from ragtune.retrieval.filters import parse_filter
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index, build_index, open_index
from ragtune.retrieval.learned import Glossary
from ragtune.retrieval.lexical import search_lexical, tokenise
from ragtune.retrieval.rephrase import MAX_CHARACTERS, MOST, parse_lines, split_question

GLOSSARY = Glossary({"capex": ("purchases of property", "capital expenditures")})


class Says:
    """A generator that gives the same reply, or fails with it."""

    name, context_tokens = "says", 4096

    def __init__(self, reply: str | Exception) -> None:
        self.reply = reply
        self.prompts: list[Sequence[Message]] = []

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return 1

    def generate(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, progress: object = None) -> list[str]:
        self.prompts += prompts
        if isinstance(self.reply, Exception):
            raise self.reply
        return [self.reply for _ in prompts]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    docs = tmp_path_factory.mktemp("expand") / "docs"
    docs.mkdir()
    for company in ("Acme", "Bolt"):
        (docs / f"{company.upper()}_2020_10K.txt").write_text("\f".join((
            f"{company} purchases of property, plant and equipment 1,577 1,373", f"{company} sells clocks and watches.",
            f"{company} clocks tick on batteries, watches tick on springs.", f"{company} employs nine people.")))
    recipe = Recipe.model_validate({"documents": {"folder": str(docs), "workers": 1}, "index": {"embedder": "hash"}})
    build_index(recipe, docs.parent / "index")
    return open_index(docs.parent / "index")


def all_tools(index: Index, reply: str | Exception = "1. What did Bolt spend?\n2. What is Bolt's capex?") -> Tools:
    return Tools(index, None, GLOSSARY.expand, GLOSSARY.expand, Says(reply))


ODD = ["", " ", "?", "ö" * 9000, "什么是资本支出？", "\x00\ud800", "<|im_start|>", "((((", "and and and what and what",
       "1/2-3*(4)", "What is X? " * 500]


@pytest.mark.parametrize("name", list(EXPANDERS))
@pytest.mark.parametrize("question", ["What was the capex of Bolt in 2020?", *ODD])
@pytest.mark.parametrize("is_bare", [True, False])
def test_contract(index: Index, name: str, question: str, is_bare: bool) -> None:
    """What any expander keeps: the question comes first, a bounded number of variants, nothing raised, always the same."""
    tools = Tools() if is_bare else all_tools(index)
    if not is_bare and "\ud800" in question:
        question = question.replace("\ud800", "")  # no tokenizer takes half a character; a search would not come so far
    variants = EXPANDERS[name](question, tools)
    assert (variants[0].weight, variants[0].dense, variants[0].lexical) == (1.0, question, question)
    assert 1 <= len(variants) <= MAX_VARIANTS
    assert all(v.weight > 0 and (v.dense or v.lexical or v.vector is not None) for v in variants[1:])
    again = EXPANDERS[name](question, tools)
    assert [(v.weight, v.dense, v.lexical) for v in again] == [(v.weight, v.dense, v.lexical) for v in variants]


@pytest.mark.parametrize("name", list(EXPANDERS))
def test_an_expander_without_its_aid_searches_the_plain_question(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(EXPANDERS[name]("What is capex?", Tools())) == 1
    assert (f"'{name}'" in caplog.text) == (name != "decompose")  # which has rules, and found one part


@pytest.mark.parametrize("name", ["multi_query", "hyde", "decompose"])
@pytest.mark.parametrize("reply", [RuntimeError("quota"), "", "\n\n", "```\n```", "<think>what now", "?", "What is capex?"])
def test_a_useless_reply_leaves_the_plain_question(
    index: Index, name: str, reply: str | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    variants = EXPANDERS[name]("What is capex?", all_tools(index, reply))
    assert len(variants) == 1 or (name, reply) == ("hyde", "What is capex?")
    assert ("RuntimeError: quota" in caplog.text) == isinstance(reply, Exception)


def test_each_expander_adds_what_it_says(index: Index) -> None:
    question = "What was the capex of Bolt?"
    tools = all_tools(index)
    for name in ("glossary", "learned"):
        assert EXPANDERS[name](question, tools)[1].dense == f"{question} purchases of property; capital expenditures"
    asked = EXPANDERS["multi_query"](question, tools)[1:]
    assert [v.lexical for v in asked] == ["What did Bolt spend?", "What is Bolt's capex?"]
    hyde = EXPANDERS["hyde"](question, all_tools(index, "Purchases of property\nwere 5."))[1]
    assert (hyde.dense, hyde.lexical) == ("Purchases of property were 5.", None)
    assert [v.lexical for v in EXPANDERS["decompose"](question, tools)[1:]] == [v.lexical for v in asked]
    moved, said = EXPANDERS["feedback"](question, tools)[1:]
    assert (moved.lexical, said.dense) == (None, None)
    assert moved.vector is not None


def test_chat_tokens_of_a_question_take_no_effect() -> None:
    generator = Says("x")
    EXPANDERS["hyde"]("<|im_start|>system [INST]", Tools(generator=generator))
    assert generator.prompts[0][-1]["content"] == "< |im_start|>system [ INST]"


def test_expanders_together_give_each_variant_once(index: Index) -> None:
    variants = expand("What was the capex of Bolt?", list(EXPANDERS), all_tools(index))
    texts = [(v.dense, v.lexical) for v in variants if v.vector is None]
    assert len(set(texts)) == len(texts)
    assert len(variants) <= MAX_VARIANTS
    assert texts[0][0] == "What was the capex of Bolt?"
    assert len(expand("What was the capex of Bolt?", [], Tools())) == 1
    with pytest.raises(RecipeError, match=r"found 'hide', .* Did you mean 'hyde'"):
        expand("x", ["hide"], Tools())


def test_a_variant_finds_what_the_question_does_not_name(index: Index) -> None:
    def pages(variants: Sequence[Variant]) -> set[int]:
        rows = [row for row, _ in find_variants(index, variants, 2, dense_weight=0)]
        return {chunk.page for chunk in index.store.chunks_at(rows)}

    assert pages(expand("How high was capex?", ["glossary"], Tools(glossary=GLOSSARY.expand))) == {1}
    assert pages([plain("How high was capex?")]) == set()


def test_one_variant_is_the_plain_fused_search(index: Index) -> None:
    question = "Which watches tick?"
    vectors = index.embedder.embed_questions([question])
    both = [search_dense(index.dense, vectors, 50)[0], search_lexical(index.lexical, [question], 50)[0]]
    assert find_variants(index, [plain(question)], 5) == fuse_ranks(both, (1, 1), 5)
    assert find_variants(index, [plain(question)], 5, dense_weight=0) == fuse_ranks(both[1:], (1,), 5)
    assert find_variants(index, [Variant(1, None, question)], 5) == fuse_ranks(both[1:], (1,), 5)
    assert find_variants(index, [], 5) == []


def test_the_filter_holds_for_every_variant_and_for_feedback(index: Index) -> None:
    keep = index.rows_kept(parse_filter("company = 'Acme'"))
    tools = Tools(index, keep, GLOSSARY.expand)
    rows = [row for row, _ in find_variants(index, expand("Bolt capex", ["glossary", "feedback"], tools), 20, keep)]
    assert rows
    assert {chunk.document for chunk in index.store.chunks_at(rows)} == {"ACME_2020_10K"}
    assert "bolt" not in feed_back_terms(index, "who sells clocks", keep)
    nothing = np.zeros(len(keep), dtype=bool)
    assert feed_back_vector(index, "clocks", nothing) is None
    assert feed_back_terms(index, "clocks", nothing) == ""
    assert find_variants(index, [plain("clocks")], 5, nothing) == []


def test_feedback_moves_towards_what_is_found_first(index: Index) -> None:
    vector = feed_back_vector(index, "watches tick")
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1)
    asked = index.embedder.embed_questions(["watches tick"])[0]
    found = find_variants(index, [Variant(1, "watches tick", None)], 1)[0][0]
    assert vector @ index.dense.reconstruct(found) > asked @ index.dense.reconstruct(found)
    said = tokenise(feed_back_terms(index, "watches tick"))
    assert said.count("watch") > said.count("clock") > 0
    assert not any(sign.isdigit() for stem in said for sign in stem)


@pytest.mark.parametrize(("question", "parts"), [
    ("What were net sales in 2020?", []),
    ("What did Acme earn and spend?", []),
    ("Why did net sales rise, and what drove the operating margin?",
     ["Why did net sales rise", "what drove the operating margin?"]),
    ("Name the largest segment. How many employees did Acme have in 2021?",
     ["Name the largest segment. Acme 2021", "How many employees did Acme have in 2021?"]),
    ("What is the ratio? It is defined as: total current assets / total current liabilities.",
     ["total current assets", "total current liabilities"]),
])
def test_questions_are_split_by_rules(question: str, parts: list[str]) -> None:
    assert [part for part in split_question(question) if part not in ("It is", "What is the ratio?")] == parts


@given(st.text(max_size=400))
@settings(max_examples=150)
def test_any_text_is_split_into_few_short_parts(text: str) -> None:
    parts = split_question(text)
    assert len(parts) <= MOST
    assert len(parts) != 1
    assert all(parts)
    assert all(len(part) <= 2 * MAX_CHARACTERS + 400 for part in parts)


@pytest.mark.parametrize("reply", [
    "What is A?\nWhat is B?", "Sure, here are some:\n\n1. What is A?\n2) What is B?", '["What is A?", "What is B?"]',
    '```json\n{"questions": ["What is A?", "What is B?"]}\n```', "- \"What is A?\"\n* **What is B?**",
    "<think>hm\nWhat is C?</think>Q1: What is A?\nQuestion 2: What is B?", '["What is A?", 7, null, "What is B?", {"a": 1}]',
])
def test_replies_in_many_forms_are_read(reply: str) -> None:
    assert parse_lines(reply) == ["What is A?", "What is B?"]


@given(st.text(max_size=300) | st.text(alphabet='[]{}",:\\n1.-<think>/ab', max_size=300))
def test_any_reply_is_read(reply: str) -> None:
    assert all(3 <= len(line) <= MAX_CHARACTERS for line in parse_lines(reply))


def test_variants_do_not_outvote_the_other_searcher(index: Index) -> None:
    """Twice the same words at BM25 weigh as much as once."""
    once = find_variants(index, [plain("clocks of Acme")], 8)
    twice = find_variants(index, [plain("clocks of Acme"), Variant(0.5, None, "clocks of Acme")], 8)
    assert [row for row, _ in once] == [row for row, _ in twice]
    assert [score for _, score in once] == pytest.approx([score for _, score in twice])
