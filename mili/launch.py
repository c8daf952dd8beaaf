"""From a model's name and the options of a command line to an engine that is ready to run."""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from mili.capture import decode_buckets
from mili.config import Qwen3Config
from mili.console import interruptible, progress
from mili.device import DTYPES, select_device, select_dtype
from mili.engine import Engine, EngineOptions
from mili.errors import ConfigError
from mili.generation_config import recommended
from mili.kernel_path import kernel_path
from mili.kv_cache import STRATEGIES, PagedKVCache, Strategy, check_page_size, page_bytes, pages_for_memory
from mili.model import Qwen3Model
from mili.models import EMBEDDED, embedded, resolve
from mili.radix_cache import POLICIES
from mili.random_weights import random_weights
from mili.tokenizer import QwenTokenizer
from mili.waiting import QUEUE_POLICIES
from mili.weights import WeightLoader

BATCH_TOKENS = {"cpu": 512, "gpu": 8192}  # a chunk that a CPU computes in well under a second; enough to fill a GPU

# Sizes of published models, from their config.json: hidden, intermediate, layers, heads, KV heads, tied embeddings.
_SHAPES = {
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, True),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, True),
    "qwen3-4b": (2560, 9728, 36, 32, 8, True),
    "qwen3-8b": (4096, 12288, 36, 32, 8, False),
    "qwen3-14b": (5120, 17408, 40, 40, 8, False),
    "tiny": (64, 160, 2, 4, 2, True),
}
SHAPES = tuple(_SHAPES)


def shape_config(name: str) -> Qwen3Config:
    """The configuration of a published Qwen3 model (`tiny`: two small layers), for running it with random weights."""
    if name not in _SHAPES:
        raise ConfigError(f"model shape {name!r} is unknown: choose one of {', '.join(SHAPES)}")
    hidden, intermediate, layers, heads, kv_heads, tied = _SHAPES[name]
    return Qwen3Config.from_dict(
        {
            "architectures": ["Qwen3ForCausalLM"],
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "head_dim": 16 if name == "tiny" else 128,
            "vocab_size": 1000 if name == "tiny" else 151936,
            "max_position_embeddings": 40960,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "tie_word_embeddings": tied,
            "eos_token_id": 999 if name == "tiny" else 151645,
        },
        source=name,
    )


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run on what.

    model          a name or path (`mili.models`); None: the model that MILI brings along, else smollm2
    random_shape   a shape of SHAPES to run with random weights instead, without a tokenizer
    device, dtype  `mili.device`
    kv_memory      bytes, size or share for the KV cache (`parse_memory`); None: a share of what is free
    num_pages      pages of the KV cache, instead of `kv_memory`
    page_size      tokens a page
    strategy       order in which free pages are used
    kernels        another kernel folder, such as a learner's own; None: `mili.kernel_path`
    capture        on a GPU, capture decode steps at the start and replay them (mili/capture.py)
    options        of the engine; a max_batch_tokens of 0 stands for what suits the device
    """

    model: str | None = None
    random_shape: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    kv_memory: str | None = None
    num_pages: int | None = None
    page_size: int = 16
    strategy: Strategy = "lifo"
    kernels: str | None = None
    capture: bool = True
    options: EngineOptions = field(default_factory=lambda: EngineOptions(max_batch_tokens=0))

    def engine(self) -> Engine:
        """Load the model, compile it and size the cache; says on stderr what it is doing."""
        check_page_size(self.page_size)
        kernel_path(self.kernels)  # a wrong folder is told before the weights are read
        device = select_device(self.device)
        dtype = select_dtype(self.dtype, device)
        tokenizer: QwenTokenizer | None = None
        recommendation: dict[str, float | int] = {}
        if self.random_shape is not None:
            name, config = self.random_shape, shape_config(self.random_shape)
            weights = random_weights(config, dtype, seed=0, packed=device.is_host)
        else:
            source = resolve(self.model or default_model())
            name, config = source.name, Qwen3Config.from_pretrained(source.path)
            recommendation = recommended(source.path)
            if has_tokenizer(source.path):
                tokenizer = QwenTokenizer.from_pretrained(source.path)
                tokenizer.check_fits(config)
            with progress(f"Loading {name}"):
                weights = WeightLoader(source.path, config).load(dtype, packed=device.is_host)
        o = self.options
        longest = o.max_context or config.max_position_embeddings
        compiling = f"Compiling {name} ({dtype}, {device.label}; from the cache after the first time)"
        with progress(compiling), interruptible():
            model = Qwen3Model(
                config,
                weights,
                device=device,
                dtype=dtype,
                page_size=self.page_size,
                max_positions=longest,
                kernels=self.kernels,
            )
        each = page_bytes(config.num_layers, config.num_kv_heads, config.head_dim, DTYPES[dtype], self.page_size)
        pages = self.num_pages or pages_for_memory(
            each, self.page_size, device, kv_memory=self.kv_memory, max_tokens=o.max_running * longest
        )
        cache = PagedKVCache(
            num_layers=config.num_layers,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=DTYPES[dtype],
            num_pages=pages,
            page_size=self.page_size,
            device=device,
            strategy=self.strategy,
        )
        if not o.max_batch_tokens:
            budget = max(BATCH_TOKENS["cpu" if device.is_host else "gpu"], o.max_running)
            o = replace(o, max_batch_tokens=budget)
        if self.capture and not device.is_host and not o.decode_buckets:
            o = replace(o, decode_buckets=decode_buckets(o.max_running))
        engine = Engine(model, tokenizer, cache, o)
        engine.recommended = recommendation
        if self.capture and not device.is_host:
            capture_decode(model, cache, engine.decode_shapes)
        return engine


def capture_decode(model: Qwen3Model, cache: PagedKVCache, shapes: list[tuple[int, int]]) -> None:
    """Capture the decode steps of an engine, and say on stderr which."""
    rows, widths = (sorted({shape[i] for shape in shapes}) for i in range(2))
    tokens = " or ".join(f"{width * cache.page_size:,}" for width in widths)
    with progress(f"Capturing {len(shapes)} decode steps (up to {rows[-1]} requests, contexts to {tokens} tokens)"):
        model.capture(cache, shapes)


def has_tokenizer(path: Path) -> bool:
    """Whether a model comes with a tokenizer; a folder without one is served token ids."""
    return path.suffix == ".gguf" or (path / "tokenizer.json").is_file()


def default_model() -> str:
    """The embedded model if it is there, else smollm2."""
    return EMBEDDED if embedded() is not None else "smollm2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every program that runs an engine."""
    model = parser.add_argument_group("model")
    model.add_argument("--model", help="folder, .gguf file, smollm2, or a name such as Qwen/Qwen3-0.6B")
    model.add_argument("--model-shape", choices=SHAPES, help="with --random-weights: the sizes to run")
    model.add_argument("--random-weights", action="store_true", help="random weights of --model-shape, no tokenizer")
    model.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N")
    model.add_argument("--dtype", default="auto", help="auto (bfloat16), bfloat16, float32, float16 (GPU)")
    model.add_argument("--no-capture", action="store_true", help="GPU: launch every kernel of every step anew")
    model.add_argument("--no-overlap", action="store_true", help="GPU: read a step's tokens before launching the next")
    model.add_argument("--kernels", help="folder of Mojo kernels to use instead of MILI's, such as your own")
    memory = parser.add_argument_group("KV cache and batching")
    memory.add_argument("--kv-memory", help="2GiB, 40%% or bytes (default: a share of what is free)")
    memory.add_argument("--num-pages", type=int, help="pages of the KV cache, instead of --kv-memory")
    memory.add_argument("--page-size", type=int, default=16, help="tokens a page: 8, 16, 32, 64 or 128 (default 16)")
    memory.add_argument("--page-strategy", choices=STRATEGIES, default="lifo", help="which free page is used next")
    memory.add_argument("--max-running", type=int, default=256, help="requests computed at the same time (default 256)")
    memory.add_argument("--max-batch-tokens", type=int, default=0, help="tokens a step (default: 512; GPU 8192)")
    memory.add_argument("--max-context", type=int, help="longest prompt and output (default: the model's)")
    memory.add_argument("--policy", choices=QUEUE_POLICIES, default="fcfs", help="who is admitted next")
    memory.add_argument("--no-prefix-caching", action="store_true", help="do not share common prefixes")
    memory.add_argument("--eviction", choices=POLICIES, default="lru", help="what leaves the prefix cache first")
    memory.add_argument("--max-cached-tokens", type=int, help="bound of the prefix cache, with --eviction token_limit")


def launch_from(arguments: argparse.Namespace, max_queue: int | None = None) -> Launch:
    """The `Launch` that parsed options of `add_arguments` ask for."""
    if arguments.random_weights != (arguments.model_shape is not None):
        raise ConfigError("--model-shape and --random-weights belong together: give both or neither")
    return Launch(
        model=arguments.model,
        random_shape=arguments.model_shape,
        device=arguments.device,
        dtype=arguments.dtype,
        kv_memory=arguments.kv_memory,
        num_pages=arguments.num_pages,
        page_size=arguments.page_size,
        strategy=arguments.page_strategy,
        kernels=arguments.kernels,
        capture=not arguments.no_capture,
        options=EngineOptions(
            max_running=arguments.max_running,
            max_batch_tokens=arguments.max_batch_tokens,
            max_context=arguments.max_context,
            max_queue=max_queue,
            prefix_caching=not arguments.no_prefix_caching,
            eviction=arguments.eviction,
            max_cached_tokens=arguments.max_cached_tokens,
            overlap=not arguments.no_overlap,
            policy=arguments.policy,
        ),
    )
