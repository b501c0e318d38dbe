"""The commands of ``virtex``, one a file.

A command here has ``add_parser(commands)``, which adds its arguments and sets ``command`` to the function
that runs it: options in, exit status out. One that needs torch is a module of components.commands instead,
started by its name in pipelines.commands.children.
"""

# Modules of this package, in the order of `virtex --help`.
COMMANDS = ("run", "serve", "status", "ablate", "worker", "ui", "report", "preset")

EXIT_FAILED = 1
