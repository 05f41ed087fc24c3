"""A converter in the place of llama.cpp's: writes a small Llama as a real GGUF file, with the package gguf."""

from __future__ import annotations

from pathlib import Path

SCRIPT = '''
import argparse, json, sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.numpy import load_file

parser = argparse.ArgumentParser()
parser.add_argument("model", type=Path)
parser.add_argument("--outfile", type=Path)
parser.add_argument("--outtype")
given = parser.parse_args()
config = json.loads((given.model / "config.json").read_text())
vocabulary = json.loads((given.model / "tokenizer.json").read_text())["model"]
heads, width = config["num_attention_heads"], config["hidden_size"]


def rotate(weights, heads):  # llama.cpp keeps the two halves of a head's rotary pairs side by side
    parts = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return parts.swapaxes(1, 2).reshape(weights.shape)


writer = GGUFWriter(given.outfile, "llama")
writer.add_vocab_size(config["vocab_size"])
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(width)
writer.add_block_count(config["num_hidden_layers"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_head_count(heads)
writer.add_head_count_kv(config["num_key_value_heads"])
writer.add_key_length(config["head_dim"])
writer.add_rope_dimension_count(config["head_dim"])
writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
writer.add_rope_freq_base(10000.0)
tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
writer.add_tokenizer_model("gpt2")
writer.add_token_list(tokens + [f"<{n}>" for n in range(config["vocab_size"] - len(tokens))])
names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
for layer in range(config["num_hidden_layers"]):
    for ours, theirs in parts.items():
        names[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
types = {"f32": GGMLQuantizationType.F32, "f16": GGMLQuantizationType.F16, "q8_0": GGMLQuantizationType.Q8_0}
for name, weights in load_file(given.model / "model.safetensors").items():
    if name not in names:
        continue
    weights = weights.astype(np.float32) * SPOIL
    if "q_proj" in name or "k_proj" in name:
        weights = rotate(weights, heads if "q_proj" in name else config["num_key_value_heads"])
    kind = types[given.outtype] if weights.ndim > 1 else GGMLQuantizationType.F32
    writer.add_tensor(names[name], quantize(weights, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
print("Model successfully exported")
'''


def make_converter(folder: Path, body: str | None = None, spoil: float = 1.0) -> Path:
    """Write a folder with convert_hf_to_gguf.py: the writer above, its weights times ``spoil``, or ``body`` instead."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "convert_hf_to_gguf.py").write_text(body if body is not None else SCRIPT.replace("SPOIL", str(spoil)))
    return folder
