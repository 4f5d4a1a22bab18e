"""Make one adapter out of several that were trained upon each other, as the published layout has it: in bfloat16, with a card.

    python join.py work/3-supervised -o DATA/adapters/smollm2 --base HuggingFaceTB/SmolLM2-135M-Instruct

The stages are those that the last one's folder names. Their sum is one adapter whose rank is the sum of theirs:
W + B1 A1 + B2 A2 = W + [B1 B2] [A1; A2]. The base's name is where `Encoder.load` looks for it;
which weights it must hold is noted beside it.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ragvec.encoder.base_weights import weights_name
from ragvec.encoder.settings import write_settings
from ragvec.encoder.sources import locate
from ragvec.files import replacing_folder, write_json

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main() -> None:
    """Write the stages' adapters as one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("last", type=Path, help="the last stage's folder")
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--base", help="how the base is named in the result; default: as the stages name it")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    options = parser.parse_args()
    found = locate(str(options.last))
    stages = [Stage(folder) for folder in found.adapters]
    rank = sum(stage.rank for stage in stages)
    with replacing_folder(options.output) as folder:
        weights = {name: value.to(DTYPES[options.dtype]).contiguous() for name, value in joined(stages).items()}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        base = options.base or str(found.base)
        write_json(folder / "adapter_config.json", {
            **stages[-1].config, "base_model_name_or_path": base, "r": rank, "lora_alpha": rank, "lora_dropout": 0.0,
        })  # fmt: skip
        base_weights = weights_name(found.base)
        write_settings(folder, replace(found.settings, base_model=base, adapters=(), base_weights=base_weights))
        for path in found.tokenizer.glob("tokenizer*"):
            shutil.copy(path, folder)
        if (card := options.output / "README.md").is_file():
            shutil.copy(card, folder)
    print(f"{options.output}: rank {rank} of {len(stages)} stages, upon the base weights {base_weights}")


class Stage:
    """A LoRA adapter: its configuration, rank and weights, B multiplied with its scale."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        self.rank: int = self.config["r"]
        unknown = [key for key in ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora") if self.config.get(key)]
        if unknown or self.config.get("bias", "none") != "none":
            raise SystemExit(f"{folder} has {unknown or 'biases'}: only plain LoRA adapters are joined")
        scale = self.config["lora_alpha"] / self.rank
        weights = load_file(folder / "adapter_model.safetensors")
        self.weights = {name: value.float() * (scale if "lora_B" in name else 1.0) for name, value in weights.items()}


def joined(stages: list[Stage]) -> dict[str, torch.Tensor]:
    """Each layer's A one below the other, its B side by side."""
    names = stages[0].weights.keys()
    if any(stage.weights.keys() != names for stage in stages):
        raise SystemExit("the stages adapt different layers: train them with the same lora_modules")
    return {name: torch.cat([one.weights[name] for one in stages], dim=int("lora_B" in name)) for name in names}


if __name__ == "__main__":
    main()
