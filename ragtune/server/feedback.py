"""What people think of answers, kept so that it can be learned from: one line each, on disk before it is acknowledged."""

from __future__ import annotations

import errno
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from ragtune.answering.answerer import Answerer, check_question
from ragtune.answering.personal import mask_personal
from ragtune.answering.prompt import prompt_hash
from ragtune.datasets.thumbs import Thumb, Verdict, complete_answer
from ragtune.documents.pack import use_pack
from ragtune.errors import IndexFolderError
from ragtune.recipe.schema import Recipe
from ragtune.records import Hit
from ragtune.server.auth import Caller, identify
from ragtune.server.errors import Rejected, describe_errors
from ragtune.server.state import State
from ragtune.stages.feedback import FILE

_LOCK = threading.Lock()


class Judgement(BaseModel):
    """What somebody thinks of an answer. The prompt is rendered anew from the question and the passages' ids."""

    question: str = Field(min_length=1, max_length=4000, examples=["What were Norvane's net sales in fiscal 2022?"])
    model: str = Field(examples=["demo-tuned"])
    verdict: Verdict
    completion: str = Field("", max_length=20_000, description="All that the model wrote: the drafts, joined. Without it "
                                                              "the answer counts as what was written.")
    answer: str = Field("", max_length=20_000, description="The checked answer that was shown.")
    passages: list[str] = Field([], max_length=100, description="The passages' chunk ids in their order; none for a model "
                                                                "without retrieval.")
    right_answer: str = Field("", max_length=4000, examples=["$4,210 million"], description="The right answer, where it is "
                                                                                            "known.")


class JudgementKept(BaseModel):
    """A judgement that is on disk."""

    id: str = Field(examples=["thumb_2c7f0e1bb2f94c0a"])


def routes(state: State) -> APIRouter:
    """Return the route that takes judgements."""
    router = APIRouter(prefix="/v1", tags=["ragtune"])

    @router.post("/feedback", summary="Say what an answer is worth", status_code=201, response_model=JudgementKept,
                 responses=describe_errors(400, 401, 404, 409, 413, 500))
    def feedback(body: Judgement, caller: Annotated[Caller, Depends(identify)]) -> JudgementKept:
        """It becomes preference data: `ragtune dataset feedback` makes pairs and labels of it."""
        thumb = make_thumb(state, body, caller)
        append(state.folder / FILE, thumb)
        return JudgementKept(id=thumb.id)

    return router


def make_thumb(state: State, body: Judgement, caller: Caller) -> Thumb:
    """Return the judgement with the prompt that was asked. Raises QuestionError, UnknownModel, and Rejected (409) where the
    passages are no longer in the index."""
    service, recipe, index = state.service, state.recipe, state.service.index_for(caller.tenant_filter)
    model = service.find_model(body.model)
    hits = []
    for rank, chunk_id in enumerate(body.passages, start=1):
        try:
            hits.append(Hit(index.chunk(chunk_id), 0.0, rank, "feedback"))
        except IndexFolderError:
            raise Rejected(409, f"passage {rank} is no longer among the documents: they have changed since. Ask again.",
                           "passages", "passages_changed") from None
    answerer = Answerer(service.engine, None, recipe)  # type: ignore[arg-type]
    with use_pack(recipe.pack):
        question = as_asked(recipe, check_question(body.question))
        (prompt, passages), = answerer.fit_prompts([(question, hits)])
        right = complete_answer(body.right_answer, passages)
    return Thumb(f"thumb_{secrets.token_hex(8)}", body.verdict, question, tuple(prompt), body.completion or body.answer,
                 body.answer, model.id, index.id, prompt_hash(recipe.answering.names_rows), body.right_answer.strip(), right,
                 caller.name, round(time.time(), 3))


def as_asked(recipe: Recipe, question: str) -> str:
    """Return a question as it was asked and may be kept: without personal data where the recipe takes that out."""
    personal = recipe.guardrails.personal_data
    return mask_personal(question, personal.kinds)[0] if personal.question != "none" else question


def append(path: Path, thumb: Thumb) -> None:
    """Add one line; it is on disk when this returns. Raises OSError where it has no room there, with nothing of it left."""
    row: dict[str, Any] = thumb.to_dict()
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    with _LOCK:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, line) < len(line):  # a disk that is nearly full takes a part of it
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(handle)
        finally:
            os.close(handle)
