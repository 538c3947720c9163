"""Groups of commands."""

import click

from kvsim.errors import UsageError, shortened


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
