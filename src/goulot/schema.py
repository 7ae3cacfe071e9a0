"""The version of everything the stages share but do not list among their `deps`.

`artifacts`, `layout`, `params`, `progress` and `errors` are imported by every stage. Were they ordinary
dependencies, a reworded error message would recompute every feature. They stand outside the graph
instead, and whoever changes what they write or read raises this number: it is a dependency of each stage.
"""

SCHEMA = 1
