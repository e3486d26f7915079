"""How fast a night is, as ratios against the bare library call and against the usual way."""
