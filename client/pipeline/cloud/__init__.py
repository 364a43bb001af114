"""The hosted SDK's names, pointed at a daemon: scripts written for it keep their imports.

The daemon is the one at the default address (``PIPELINED_ADDRESS``). What this version does not
have yet raises :class:`pipeline.errors.NotServed`, which names the function; nothing is silently
ignored.
"""
