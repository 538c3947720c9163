"""Specs, the strings that choose a cache policy: "dynamic", "static:4096", "offload:int8:group=32".

A policy is a class in a file of its own and one line in `POLICIES`; only a policy that is used is imported.
"""

from importlib import import_module
from typing import Any, NamedTuple

from kvsim.caches.base import LayerCache
from kvsim.errors import UsageError, shortened

# Name -> the class, as MODULE:CLASS under kvsim.caches, or the class itself.
POLICIES: dict[str, str | type[LayerCache]] = {
    "none": "none:NoLayer",
    "dynamic": "dynamic:DynamicLayer",
    "static": "static:StaticLayer",
    "paged": "paged.layer:PagedLayer",
    "window": "window:WindowLayer",
    "sinks": "sinks:SinksLayer",
    "int8": "quantised.layer:Int8Layer",
    "int4": "quantised.layer:Int4Layer",
    "fp8": "quantised.fp8:Fp8Layer",
    "h2o": "evicting.h2o:HeavyHittersLayer",
    "snapkv": "evicting.snapkv:SnapLayer",
    "knorm": "evicting.knorm:ShortKeysLayer",
    "offload": "offload:OffloadLayer",
}


def find_policy(name: str) -> type[LayerCache]:
    """The class of the policy `name`, a key of `POLICIES`; imports its module."""
    found = POLICIES[name]
    if not isinstance(found, str):
        return found
    module, _, class_name = found.partition(":")
    policy: type[LayerCache] = getattr(import_module(f"kvsim.caches.{module}"), class_name)
    return policy


def list_examples() -> list[str]:
    """A spec of every policy, in the order of `POLICIES`; imports them all."""
    return [find_policy(name).example for name in POLICIES]


class Spec(NamedTuple):
    """A policy and its options. `str(spec)` parses back to an equal spec."""

    name: str
    options: Any

    @property
    def policy(self) -> type[LayerCache]:
        return find_policy(self.name)

    def __str__(self) -> str:
        options = self.policy.print_options(self.options)
        return f"{self.name}:{options}" if options else self.name


def parse_spec(spec: str) -> Spec:
    """ "static:4096" -> Spec("static", 4096). UsageError: an unknown policy, or options that it does not take."""
    name, colon, text = spec.partition(":") if isinstance(spec, str) else ("", "", "")
    if name not in POLICIES:
        known = ", ".join(list_examples())
        raise UsageError("unknown cache {spec}: use one of {known}", spec=shortened(spec), known=known)
    policy = find_policy(name)
    options = policy.read_options(name, text or colon)
    if policy.wraps:
        contained = options.partition(":")[0]
        # Refused before it is parsed: a thousand of them may be nested.
        if contained in POLICIES and find_policy(contained).wraps:
            raise UsageError(
                "the cache {spec} is of a policy that contains another one, and cannot be contained itself",
                spec=shortened(options),
            )
        options = parse_spec(options)
        policy.check_wrapped(str(options), options.policy)
    return Spec(name, options)
