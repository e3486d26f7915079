"""``python -m bench``: see :mod:`bench.nights`.

What runs in processes of its own must be found by name, so it cannot live here.
"""

from bench.nights import main

if __name__ == "__main__":
    main()
