"""Writes the KV of a real model and text for bench/run codec.

    "$(deploy/python-env)"/bin/python bench/codec/dump_kv.py OUT.json
    KDN_KV=OUT.json bench/run codec

OUT.bin holds elements [layer][K, V][head][token][channel]; OUT.json their counts and where they come from.
"""
import argparse
import hashlib
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client" / "python"))
os.environ["HF_HUB_OFFLINE"] = "1"

DEFAULT_TEXT = pathlib.Path("/usr/share/common-licenses/GPL-3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT.json")
    parser.add_argument("--model", default="smollm2", help="a name of kdn.models (default: smollm2)")
    parser.add_argument("--text", type=pathlib.Path, default=DEFAULT_TEXT, help=f"default: {DEFAULT_TEXT}")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp16", "fp8_e4m3", "fp32"),
                        help="element type; others than bf16 are rounded from a run in fp32 (default: bf16)")
    args = parser.parse_args()

    import torch
    from kdn import models

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8_e4m3": torch.float8_e4m3fn,
             "fp32": torch.float32}[args.dtype]
    loaded = models.load(args.model, torch.bfloat16 if args.dtype == "bf16" else torch.float32)
    text = args.text.read_bytes()
    ids = loaded.tokenizer(text.decode(), return_tensors="pt").input_ids[:, :args.tokens]
    with torch.no_grad():
        cache = loaded.model(ids, use_cache=True).past_key_values
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    shapes = {tuple(plane.shape) for layer in layers for plane in layer}
    if len(shapes) != 1:
        sys.exit("dump_kv: only models whose layers are alike can be dumped")
    _, heads, tokens, dim = shapes.pop()
    with open(args.out.with_suffix(".bin"), "wb") as file:
        for layer in layers:
            for plane in layer:
                file.write(plane[0].to(dtype).contiguous().view(torch.uint8).numpy().tobytes())
    args.out.write_text(json.dumps({
        "dtype": args.dtype, "layers": len(layers), "heads": heads, "tokens": tokens, "dim": dim, "model": args.model,
        "weights_sha256": loaded.weights_digest, "text": args.text.name,
        "text_sha256": hashlib.sha256(text).hexdigest()}, indent=1) + "\n")
    print(f"{args.out}: {len(layers)} layers, {heads} heads, {tokens} tokens, {dim} channels")


if __name__ == "__main__":
    main()
