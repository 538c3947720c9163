"""`kvsim bench`: how fast, with and without a cache, on this machine."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from kvsim.cli.options import Bar, Number, common, known
from kvsim.errors import UsageError
from kvsim.files import write_beside
from kvsim.i18n.language import Say


def command(say: Say) -> click.Command:
    @click.command(
        "bench",
        help=say("Time steps at growing context with and without a cache, beside what this machine can do."),
        epilog=say("Examples:")
        + "\n\n\b\n  kvsim bench\n  kvsim bench --model gpt2 -n 512 --peer transformers --svg gpt2.svg",
    )
    @click.option(
        "--model",
        default="demo",
        show_default=True,
        metavar="NAME|DIR|FILE.gguf",
        help=say("The model; a public one's name (gpt2) has random weights of that shape."),
    )
    @click.option(
        "-n", "--max-new-tokens", "new", type=Number(int), help=say("New tokens; as many as fit, up to 1000.")
    )
    @click.option("--prompt", type=Number(int), default=16, show_default=True, help=say("Tokens of the prompt."))
    @click.option("--points", type=Number(int), default=6, show_default=True, help=say("Contexts that are timed; as"
                  " many as -n: every step."))  # fmt: skip
    @click.option("--repeats", type=Number(int), default=5, show_default=True, help=say("Steps timed at each."))
    @click.option("--no-uncached", is_flag=True, help=say("Leave out the run without a cache."))
    @click.option(
        "--peer",
        metavar="transformers|torch",
        shell_complete=known("transformers", "torch"),
        help=say("Another with the same weights, checked equal first."),
    )
    @click.option("--backend", metavar="numpy|cupy|torch|exact", help=say("The array library that computes; else"
                  " KVSIM_BACKEND, or numpy."))  # fmt: skip
    @click.option("--device", help=say("The backend's device; its own choice by default."))
    @click.option("--dtype", default="float32", show_default=True, help=say("What everything is computed in."))
    @click.option("--json", "as_json", is_flag=True, help=say("Print one JSON object."))
    @click.option("--svg", type=click.Path(dir_okay=False, path_type=Path), help=say("Plot ms a token over context."))
    @common(say)
    def bench(
        model: str, new: int | None, prompt: int, points: int, repeats: int, no_uncached: bool, peer: str | None,
        backend: str | None, device: str | None, dtype: str, as_json: bool, svg: Path | None,
    ) -> int:  # fmt: skip
        from kvsim.benchmark import decoding, peers, subjects
        from kvsim.benchmark import limits as machine
        from kvsim.costs.bytes.parameters import count_parameters
        from kvsim.views.terminal import bench as views

        for name, value in (("--points", points), ("--repeats", repeats)):
            if value < 1:
                raise UsageError("{name} must be at least 1, got {value}", name=name, value=value)
        if peer is not None:
            peers.check_name(peer)
        if svg is not None and not svg.parent.is_dir():
            raise UsageError("there is no folder {folder} for {file}", folder=svg.parent, file=svg.name)
        with TemporaryDirectory() as folder:
            shape = subjects.find_shape(model)
            new = min(1000, max(shape.max_context - prompt, 1)) if new is None else new
            decoding.check_sizes(model, shape.max_context, prompt, new)
            shared = Path(folder) if peer == "transformers" else None
            subject = subjects.open_subject(model, backend, device, dtype, shared, 1 if peer is None else 2, shape)
            other = None if peer is None else peers.open_peer(peer, subject)
        read, multiply = machine.measure_limits(subject.ops.backend, dtype)
        facts: dict[str, Any] = {
            "model": subject.name, "parameters": f"{count_parameters(subject.config):,}", "dtype": dtype,
            "backend": subject.backend, "attention": subject.attention, "machine": machine.describe_machine(),
            "read_bytes_per_second": read, "flops_per_second": multiply, "peer": peer, "peak_memory": None,
        }  # fmt: skip
        prefill = decoding.time_prefill(subject, prompt, repeats)
        contexts = decoding.choose_contexts(prompt, new, points)
        done: list[decoding.Point] = []
        partial = False
        if not as_json:
            click.echo(views.tell_heading(facts, prefill, say))
        try:
            with Bar(say("contexts")) as bar:
                for point in decoding.time_steps(subject, contexts, repeats, not no_uncached, other):
                    done.append(point)
                    bar(len(done), len(contexts))
                    if not as_json:
                        click.echo(views.tell_point(point, facts))
        except KeyboardInterrupt:
            partial = True
        facts["peak_memory"] = machine.peak_memory()
        if as_json:
            click.echo(views.to_json(views.to_dict(facts, prefill, done, prompt, prompt + new - 1, partial)))
        elif done:
            click.echo(views.tell_sums(facts, done, prompt, prompt + new - 1, partial, say))
        if svg is not None and done:
            write_beside(svg, views.to_svg(facts, done).encode())
        return 130 if partial else 0

    return bench
