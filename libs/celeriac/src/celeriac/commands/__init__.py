"""The sub-commands that the library brings; each module is one."""
