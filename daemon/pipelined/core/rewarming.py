"""Warms deployments again after a restart, in the order of their last use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.errors import DomainError
from pipelined.core.states import State


class Warm(str, Enum):
    """Which deployments are warmed when the daemon starts."""

    NONE = "none"
    # That somebody has used and not cooled since.
    RECENT = "recent"
    # Those, and after them the others.
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rewarming:
    """What is warmed when the daemon starts.

    Attributes:
        which: See ``Warm``.
        at_most: Versions; the most recently used.
    """

    which: Warm = Warm.NONE
    at_most: int = 8


def chosen(deployments: Deployments, rewarming: Rewarming) -> Sequence[Deployment]:
    """What is to be warmed, most recently used first.

    Of each name the newest version, and those that pointers name: nothing else is kept warm. Those
    that are to have workers at all times are, whatever the settings say, and do not count.
    """
    addressed = [
        deployment
        for deployment in deployments.list(all_versions=True)
        if deployments.is_addressed(deployment)
    ]
    addressed.sort(key=lambda d: (d.last_used_at, d.specification.created_at), reverse=True)
    kept = [d for d in addressed if d.specification.options.min_instances > 0]
    wanted = [
        deployment
        for deployment in addressed
        if deployment not in kept
        and rewarming.which is not Warm.NONE
        and (rewarming.which is Warm.ALL or deployment.last_used_at > 0)
    ]
    return kept + wanted[: rewarming.at_most]


async def rewarm(
    chosen: Sequence[Deployment],
    deployments: Deployments,
    on_failure: Callable[[Deployment, DomainError], None],
) -> int:
    """Warm them one after the other, each when nothing that somebody waits for is being started.

    One that a run starts meanwhile is joined, or is warm already.

    Returns:
        How many are warm.
    """
    warm = 0
    for deployment in chosen:
        await deployments.quiet()
        # It may have been cooled, deleted or used since.
        if deployment.state is not State.COLD or not deployments.is_addressed(deployment):
            warm += deployment.state is State.WARM
            continue
        try:
            await deployment.warm(lambda _: None, speculative=True)
            warm += 1
        except DomainError as error:
            on_failure(deployment, error)
    return warm
