"""Train the demo model that ships with kvsim, from examples/demo_text.txt.

    pip install -e ".[dev]"
    python examples/train_demo_model.py            # writes kvsim/demo/, about fifteen minutes on two cores
    python examples/train_demo_model.py --out DIR  # or somewhere else

A Llama-style model with one token per character: small enough for the wheel, large enough to memorise
its text. The seed is fixed, so the same torch on the same kind of processor gives the same
file; another processor rounds differently and gives other weights that pass the same tests
(tests/test_demo_model.py).
"""

import argparse
import json
import math
import random
import tempfile
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
TEXT = HERE / "demo_text.txt"
OUT = HERE.parent / "kvsim" / "demo"
UNKNOWN = "<unk>"
CONTEXT = 1024
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": UNKNOWN,
    "clean_up_tokenization_spaces": False,
    "model_max_length": CONTEXT,
}


def character_tokenizer(text: str) -> Tokenizer:
    """One token per character of the text; every other character is the unknown token, id 0."""
    vocab = {UNKNOWN: 0} | {c: i for i, c in enumerate(sorted(set(text)), start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([UNKNOWN])
    return tokenizer


def window(lines: list[list[int]], length: int, rng: random.Random) -> list[int]:
    """`length` ids of lines in a random order, the last one cut; position 0 is always the start of a line."""
    ids: list[int] = []
    while len(ids) < length:
        ids += lines[rng.randrange(len(lines))]
    return ids[:length]


def batch(lines: list[list[int]], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and target ids [B, T]: mostly short windows, some as long as the context."""
    length, rows = rng.choice([(96, 32), (192, 16), (192, 16), (320, 10), (CONTEXT, 3)])
    targets = torch.tensor([window(lines, length, rng) for _ in range(rows)])
    # One input character in two hundred is replaced by the unknown token, so that the model learns to go on after one.
    hidden = torch.rand(targets.shape) < 0.005
    return targets.masked_fill(hidden, 0), targets


def train(model: LlamaForCausalLM, lines: list[list[int]], steps: int, seed: int) -> None:
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.0)
    peak, warm = 4e-3, 200

    def rate(step: int) -> float:
        return peak * min((step + 1) / warm, 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train()
    for step in range(steps):
        ids, targets = batch(lines, rng)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}", flush=True)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the checkpoint in Hugging Face's format; each file is renamed into place when it is complete."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as tmp:
        model.save_pretrained(tmp)
        tokenizer.save(f"{tmp}/tokenizer.json")
        Path(tmp, "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n")
        for file in sorted(Path(tmp).iterdir()):
            file.chmod(0o644)
            file.replace(out / file.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=1949)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    text = TEXT.read_text(encoding="utf-8")
    tokenizer = character_tokenizer(text)
    lines = [tokenizer.encode(line + "\n").ids for line in text.splitlines()]
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=256,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=CONTEXT, rms_norm_eps=1e-6, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(lines)} lines, {config.vocab_size} tokens")
    train(model, lines, options.steps, options.seed)
    save(model, tokenizer, options.out)


if __name__ == "__main__":
    main()
