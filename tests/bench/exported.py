"""sentence-transformers through ONNX Runtime and OpenVINO, in float32 and int8: what `tests.bench.encode` compares with.

    python tests/bench/exported.py MODEL BACKEND ROUNDS < texts.json      prints the seconds of each round, as JSON

BACKEND is onnx, openvino, onnx-int8 (dynamic, for AVX512-VNNI) or openvino-int8 (static, calibrated by NNCF on some).
Nothing of ragvec is imported: the exporters want an older transformers than ragvec, so an environment of their own.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

CALIBRATED = 64  # texts that static quantisation sees
VNNI = "avx512_vnni"


def load(model: str, backend: str, texts: Sequence[str]) -> Any:
    """A SentenceTransformer whose network runs in the backend; exported now, so for folders it may not write into too."""
    from sentence_transformers import SentenceTransformer

    engine, _, small = backend.partition("-")
    ready = SentenceTransformer(model, backend=engine, device="cpu", model_kwargs={"export": True})
    ready.tokenizer.pad_token = ready.tokenizer.pad_token or ready.tokenizer.eos_token
    if not small:
        return ready
    if engine == "openvino":
        return quantized(ready, texts)
    from sentence_transformers import export_dynamic_quantized_onnx_model

    folder = tempfile.mkdtemp()
    ready.save_pretrained(folder)
    export_dynamic_quantized_onnx_model(ready, VNNI, folder)
    file = {"file_name": f"onnx/model_qint8_{VNNI}.onnx"}
    return SentenceTransformer(folder, backend="onnx", device="cpu", model_kwargs=file)


def quantized(ready: Any, texts: Sequence[str]) -> Any:
    """The same with 8-bit weights and activations."""
    import nncf

    network = ready[0].auto_model
    names = {name for put in network.model.inputs for name in put.get_names()}
    samples = [{k: v.numpy() for k, v in ready.tokenize([text]).items() if k in names} for text in texts[:CALIBRATED]]
    network.model = nncf.quantize(network.model, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER)
    network.request = None
    network.compile()
    return ready


def seconds(model: str, backend: str, texts: Sequence[str], rounds: int) -> list[float]:
    """Of each round, after one to warm up."""
    ready, taken = load(model, backend, texts), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        ready.encode(texts)
        taken.append(time.perf_counter() - start)
    return taken[1:]


if __name__ == "__main__":
    print(json.dumps(seconds(sys.argv[1], sys.argv[2], json.load(sys.stdin), int(sys.argv[3]))))
