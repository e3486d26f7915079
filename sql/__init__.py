"""Every statement that Nightshift sends: queries, migrations, the demo's warehouse.

Installed as ``nightshift_sql``; read with ``importlib.resources``.
"""
