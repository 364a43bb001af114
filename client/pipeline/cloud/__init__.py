"""The hosted SDK's names, pointed at a daemon: a script written for it needs only the address.

That is ``PIPELINED_ADDRESS``, else the default address of :class:`pipeline.Client`. All functions
share one connection per process and address; any number of threads may use them.

A daemon has no users: of ``user/name:tag``, ``user/`` is dropped, wherever the hosted service takes
such a name. The id of a pipeline is ``name:v3``: one version of a deployment.

What the daemon does in another way than an argument asks for is said with a
:class:`pipeline.errors.DeploymentWarning`; nothing is silently ignored.
"""
