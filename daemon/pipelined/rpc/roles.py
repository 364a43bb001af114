"""The role that each method needs: the one table. A method that is not in it is for ADMIN alone."""

from __future__ import annotations

from pipelined.core.access import Role

_V1 = "/pipelined.v1."
_REFLECTION = "ServerReflection/ServerReflectionInfo"

ROLES: dict[str, Role] = {
    # Whoever may run something may see what there is to run, and have it started before: a run
    # would start it, too.
    f"{_V1}Deployments/Get": Role.RUN,
    f"{_V1}Deployments/List": Role.RUN,
    f"{_V1}Deployments/ListPointers": Role.RUN,
    f"{_V1}Deployments/Warm": Role.RUN,
    f"{_V1}Deployments/Deploy": Role.DEPLOY,
    f"{_V1}Deployments/Delete": Role.DEPLOY,
    f"{_V1}Deployments/Cool": Role.DEPLOY,
    f"{_V1}Deployments/SetPointer": Role.DEPLOY,
    f"{_V1}Deployments/DeletePointer": Role.DEPLOY,
    # Their own runs; see Caller.sees. The lines of a deployment, which are those of everybody's
    # runs, want DEPLOY (rpc/run_records.py).
    f"{_V1}Runs/Run": Role.RUN,
    f"{_V1}Runs/Stream": Role.RUN,
    f"{_V1}Runs/Submit": Role.RUN,
    f"{_V1}Runs/Get": Role.RUN,
    f"{_V1}Runs/List": Role.RUN,
    f"{_V1}Runs/Cancel": Role.RUN,
    f"{_V1}Runs/Logs": Role.RUN,
    # Their own files; see rpc/owned_files.py.
    f"{_V1}Files/Upload": Role.RUN,
    f"{_V1}Files/Stat": Role.RUN,
    f"{_V1}Files/Download": Role.RUN,
    f"{_V1}Files/Delete": Role.RUN,
    # They are for those who deploy.
    f"{_V1}Environments/Create": Role.DEPLOY,
    f"{_V1}Environments/Get": Role.DEPLOY,
    f"{_V1}Environments/List": Role.DEPLOY,
    f"{_V1}Environments/Delete": Role.DEPLOY,
    f"{_V1}Daemon/CheckRequirements": Role.DEPLOY,
    f"{_V1}Daemon/Info": Role.RUN,
    f"{_V1}Daemon/Drain": Role.ADMIN,
    # Numbers of everybody's runs together, which whoever spreads runs over daemons needs.
    f"{_V1}Daemon/Stats": Role.RUN,
    "/grpc.health.v1.Health/Check": Role.RUN,
    "/grpc.health.v1.Health/Watch": Role.RUN,
    f"/grpc.reflection.v1.{_REFLECTION}": Role.RUN,
    f"/grpc.reflection.v1alpha.{_REFLECTION}": Role.RUN,
}
