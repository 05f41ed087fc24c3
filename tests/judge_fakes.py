"""Chat models that judge by a script, behind LangChain's seam, and the answers they are asked about."""

from __future__ import annotations

import re
import time

from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.models.remote import ChatGenerator
from ragtune.recipe.schema import Generator
from ragtune.records import Question

SECTION = Generator(model="openai:judge", batch_size=2)


def scripted(reply, name="openai:judge"):
    """A ChatGenerator whose model replies with reply(user message), or raises what reply raises."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Scripted(BaseChatModel):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return ChatResult(generations=[ChatGeneration(message=AIMessage(content=reply(messages[-1].content)))])

        @property
        def _llm_type(self):
            return "scripted"

    return ChatGenerator(name, Scripted(), SECTION)


def by_figure(prompt):
    """An honest judge: correct where the reference's figure stands in the answer's lines."""
    reference = re.search(r"Reference answer:\n\| (.*)", prompt)[1]
    answer = prompt.partition("\nAnswer:\n")[2]
    return f"I looked for it.\nVerdict: {'correct' if reference in answer else 'wrong'}"


def items(count=4):
    """Questions 0 to count - 1; the even ones are answered rightly."""
    return [ToJudge(f"q{n}", Question(f"q{n}", f"What is item {n}?", f"{n}00 million"), f"It is {n + n % 2}00 million.",
                    group=f"q{n}") for n in range(count)]


def sleep_on(word, seconds=5.0):
    """A judge that takes too long where the prompt holds a word."""
    def reply(prompt):
        if word in prompt:
            time.sleep(seconds)
        return by_figure(prompt)

    return reply
