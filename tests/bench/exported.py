"""sentence-transformers through ONNX Runtime and OpenVINO, in float32 and int8, and llama.cpp: what `tests.bench.encode`
compares with.

    python tests/bench/exported.py MODEL BACKEND ROUNDS THREADS < texts.json      prints the seconds of each round, as JSON

BACKEND is onnx, openvino, onnx-int8 (dynamic, for AVX512-VNNI) or openvino-int8 (static, calibrated by NNCF on some), or,
where MODEL is a GGUF file, llama.cpp (llama-cpp-python, which is compiled for the machine where it is installed, or xllamacpp,
whose wheel is for AVX2; as many texts in a batch as fit into BATCH_TOKENS).
Nothing of ragvec is imported: the exporters want an older transformers than ragvec, so an environment of their own.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

CALIBRATED = 64  # texts that static quantisation sees
VNNI = "avx512_vnni"
BATCH_TOKENS = 4096  # of llama.cpp's batches
ALONE_TOKENS = 512  # where each text is one: the longest here has 400


def llama_cpp(path: str, texts: Sequence[str], threads: int) -> Callable[[], object]:
    """What encodes the texts of a GGUF file's model in llama.cpp, pooling the mean."""
    if find_spec("llama_cpp") is None:
        return xllamacpp(path, texts, threads)
    from llama_cpp import LLAMA_POOLING_TYPE_MEAN, Llama

    ready = Llama(
        path, embedding=True, pooling_type=LLAMA_POOLING_TYPE_MEAN, n_ctx=BATCH_TOKENS, n_batch=BATCH_TOKENS,
        n_ubatch=BATCH_TOKENS, n_threads=threads, n_threads_batch=threads, verbose=False,
    )  # fmt: skip
    return lambda: ready.embed(list(texts), normalize=True)


def xllamacpp(path: str, texts: Sequence[str], threads: int) -> Callable[[], object]:
    """The same through its server's part, within this process: a text at a time, which is faster there than many together."""
    from xllamacpp import CommonParams, Server, llama_pooling_type

    asked = CommonParams()
    asked.model.path, asked.embedding, asked.pooling_type = path, True, llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    asked.n_ctx = asked.n_batch = asked.n_ubatch = ALONE_TOKENS
    asked.n_parallel = 1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
    ready = Server(asked)
    return lambda: [ready.handle_embeddings({"input": [text], "model": "it"}) for text in texts]


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


def encoding(model: str, backend: str, texts: Sequence[str], threads: int) -> Callable[[], object]:
    """What encodes the texts once."""
    if backend == "llama.cpp":
        return llama_cpp(model, texts, threads)
    ready = load(model, backend, texts)
    return lambda: ready.encode(texts)


def seconds(model: str, backend: str, texts: Sequence[str], *, rounds: int, threads: int) -> list[float]:
    """Of each round, after one to warm up."""
    encode, taken = encoding(model, backend, texts, threads), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        encode()
        taken.append(time.perf_counter() - start)
    return taken[1:]


if __name__ == "__main__":
    rounds, threads = map(int, sys.argv[3:])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # whatever each library makes of the number of cores
    print(json.dumps(seconds(sys.argv[1], sys.argv[2], json.load(sys.stdin), rounds=rounds, threads=threads)))
