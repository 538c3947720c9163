"""Groups of commands."""

import click

from kvsim.errors import UsageError, shortened

_SENTENCE = 500  # characters, at most


def _first_sentence(command: click.Command) -> str:
    """What a command does, in one sentence; click knows no Chinese full stop."""
    sentence, stop, _ = command.get_short_help_str(_SENTENCE).partition("。")
    return sentence + stop


class Group(click.Group):
    """A group that lists its commands where one is asked for that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise UsageError(
                "unknown command {name}: use one of {known}", name=shortened(args[0]), known=", ".join(known)
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, each with a whole sentence: click's own list cuts it off where the terminal is narrow."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(one)) for name, one in commands if one is not None])
