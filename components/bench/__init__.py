"""Speed, measured beside the paper's own recipe: one benchmark a file, its plain baseline in it.

Each module has ``run(size, rounds)``, which returns `components.bench.timing.Comparison` objects, and
``FULL`` and ``QUICK``, its sizes; `components.commands.bench` prints what they return.
"""
