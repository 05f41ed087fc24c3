"""The model: a small Llama in a lean form for training, its mimetic initialisation, and its Hugging Face form."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

EPSILON = 1e-5
ROPE_THETA = 10000.0


@dataclass(frozen=True)
class Shape:
    """Sizes; hidden, heads x head size and inner must be multiples of 64 (bitsandbytes is silently wrong otherwise)."""

    vocabulary: int = 6144
    hidden: int = 192
    layers: int = 4
    heads: int = 4
    inner: int = 448
    positions: int = 2048

    def __post_init__(self) -> None:
        """Raise ValueError for a size that 4-bit loading would get wrong."""
        for name in ("hidden", "inner"):
            if getattr(self, name) % 64:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be a multiple of 64")
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} does not part into {self.heads} heads of even size")

    @property
    def head(self) -> int:
        """Size of a head."""
        return self.hidden // self.heads


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, EPSILON)


class Layer(nn.Module):
    """Attention with rotary positions, then a gated inner layer; query, key and value in one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.hidden
        self.heads, self.attention_norm, self.inner_norm = shape.heads, Norm(d), Norm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.gate_up, self.down = nn.Linear(d, 2 * shape.inner, bias=False), nn.Linear(shape.inner, d, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, length, hidden) to the same."""
        batch, length, d = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = attend(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, d))
        gate, up = self.gate_up(self.inner_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def attend(query: Tensor, key: Tensor, value: Tensor, block: int = 192) -> Tensor:
    """Causal attention, (batch, heads, length, size) each, in blocks of queries that read only the keys before them.

    On a CPU it takes two thirds of the time of torch's own kernel in bfloat16; elsewhere torch's own is used.
    """
    length = query.shape[2]
    if query.device.type != "cpu" or length <= block:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    query, written = query / math.sqrt(query.shape[-1]), []
    for start in range(0, length, block):
        end = min(start + block, length)
        scores = query[:, :, start:end] @ key[:, :, :end].transpose(-1, -2)
        future = torch.full((end - start, end - start), -1e4, dtype=scores.dtype).triu(1)
        scores = torch.cat([scores[..., :start], scores[..., start:] + future], -1)
        written.append(scores.softmax(-1) @ value[:, :, :end])
    return torch.cat(written, 2)


def _rotate(z: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = z.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Reader(nn.Module):
    """The model without its output matrix, which is the embedding's transpose."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                scale = 0.3 if name.endswith(("out.weight", "down.weight")) else 0.6
                nn.init.normal_(weight, 0, 0.02 if "embedding" in name else scale / math.sqrt(weight.shape[1]))
        frequencies = ROPE_THETA ** -(torch.arange(0, shape.head, 2).float() / shape.head)
        angles = torch.outer(torch.arange(shape.positions).float(), frequencies)
        self.register_buffer("cos", angles.cos(), False)
        self.register_buffer("sin", angles.sin(), False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (batch, length) to the last hidden states (batch, length, hidden)."""
        length = ids.shape[1]
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return self.norm(x)


@torch.no_grad()
def share_embeddings(model: Reader, tokens: list[str], seed: int = 0, own: float = 0.5) -> None:
    """Let tokens that differ only in case and in the space before them begin with mostly the same embedding.

    ``Net``, ``net`` and `` net`` are then near one another, so that a row's label is found in a question that lowers it.
    ``own`` is the share of the norm that stays the token's own.
    """
    generator, stems = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for number, token in enumerate(tokens):
        stem = token.lstrip("Ġ").lower() or token
        base = stems.setdefault(stem, torch.randn(model.shape.hidden, generator=generator) * 0.02)
        model.embedding.weight[number] = math.sqrt(1 - own**2) * base + own * model.embedding.weight[number]


@torch.no_grad()
def deepen(model: Reader, layers: int, seed: int = 1) -> Reader:
    """Return a deeper model that computes the same: new layers, whose output is zero at first, stand before old ones.

    The upper half gets them, one before each old layer from the last down (in the manner of net2net, arXiv 1511.05641).
    """
    torch.manual_seed(seed)
    deeper = Reader(replace(model.shape, layers=layers))
    kept = list(model.layers)
    places = [len(kept) - 1 - i for i in range(layers - len(kept))]
    for place in places:
        kept.insert(place, nn.Identity())
    for new, old in zip(deeper.layers, kept):
        assert isinstance(new, Layer)
        if isinstance(old, Layer):
            new.load_state_dict(old.state_dict())
            continue
        new.out.weight.zero_()
        new.down.weight.zero_()
    deeper.embedding.load_state_dict(model.embedding.state_dict())
    deeper.norm.load_state_dict(model.norm.state_dict())
    return deeper


@torch.no_grad()
def initialise(
    model: Reader,
    seed: int = 0,
    shared: float = 0.7,
    mixed: float = 0.3,
    match: float = 3.5,
    later: float = 2.5,
    copy: float = 6.0,
    fast: int = 10,
) -> None:
    """Set the heads so that they begin as a copying circuit (mimetic initialisation).

    Layer 0: heads look one, two and three tokens back, and each writes what it saw into a subspace of its own. Layer 1:
    each head matches what stood k tokens back here with what stood k + 1 back there, so that after ``Net sales 2021: ``
    one head finds the amounts after a colon, one those of 2021 and one those of a row ending in ``sales``, and they copy.
    The other heads begin with query = key (attend to like) and output = transposed value.
    """
    generator = torch.Generator().manual_seed(seed)
    d, heads, size = model.shape.hidden, model.shape.heads, model.shape.head

    def orthogonal() -> Tensor:
        return torch.linalg.qr(torch.randn(d, d, generator=generator))[0].T

    constant = F.normalize(torch.randn(d, generator=generator), dim=0)  # a direction all embeddings share: position only
    norm = float(model.embedding.weight.norm(dim=1).mean())
    model.embedding.weight += constant * norm
    theta = ROPE_THETA ** -(torch.arange(0, size, 2).float() / size)
    energy = torch.zeros(size // 2)
    energy[:5] = torch.tensor([0.45, 0.25, 0.15, 0.1, 0.05])
    amplitude = (14 * math.sqrt(size) / (d / 2) * energy).sqrt()
    basis = orthogonal()
    basis -= basis @ constant[:, None] * constant  # else what all tokens share would make every head look nearby
    content, *seen_back = (
        basis[part * size : (part + 1) * size] for part in range(d // size)
    )  # content, 1 back, 2 back, ...
    for depth, layer in enumerate(model.layers):
        values = orthogonal()
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            like = torch.linalg.qr(torch.randn(d, size, generator=generator))[0].T * shared
            query, key, value = like, like, values[rows]
            output = mixed * value.T
            if depth == 0 and head < len(seen_back):
                offset = head + 1
                query = (
                    torch.cat([amplitude * torch.cos(offset * theta), -amplitude * torch.sin(offset * theta)])[:, None]
                    * constant
                )
                key = torch.cat([amplitude, torch.zeros(size // 2)])[:, None] * constant
                value, output = content, 3.0 * seen_back[head].T
            elif depth == 1 and head < len(seen_back):
                asked = content if head == 0 else seen_back[head - 1]
                slow = torch.arange(size) % (size // 2) >= (0 if head == 0 else fast)  # fast rotations blur what is far
                strength = slow.float()[:, None] * (match if head == 0 else later)
                query, key, output = asked * strength, seen_back[head] * strength, copy * value.T
            noise = 0.05 / math.sqrt(d)
            layer.qkv.weight[rows] = query + noise * torch.randn(size, d, generator=generator)
            layer.qkv.weight[d + head * size : d + (head + 1) * size] = key + noise * torch.randn(
                size, d, generator=generator
            )
            layer.qkv.weight[2 * d + head * size : 2 * d + (head + 1) * size] = value
            layer.out.weight[:, rows] = output * (1.41 * norm / math.sqrt(d))
        layer.down.weight.mul_(norm / math.sqrt(d) * 2)
    model.norm.weight.mul_(3)


def to_llama(model: Reader) -> LlamaForCausalLM:
    """Return the same model as an ordinary float32 LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = model.shape
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=shape.head,
            intermediate_size=shape.inner,
            max_position_embeddings=shape.positions,
            tie_word_embeddings=True,
            rms_norm_eps=EPSILON,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    weights = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.embedding.weight,
    }
    for depth, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        query, key, value = layer.qkv.weight.chunk(3, 0)
        gate, up = layer.gate_up.weight.chunk(2, 0)
        parts = {
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": layer.out.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": layer.down.weight,
            "input_layernorm": layer.attention_norm.weight,
            "post_attention_layernorm": layer.inner_norm.weight,
        }
        weights |= {f"model.layers.{depth}.{name}.weight": weight for name, weight in parts.items()}
    llama.load_state_dict({name: weight.detach().float() for name, weight in weights.items()})
    return llama.eval()
