"""The pages that people open in the morning, and the REST API beside them.

Nothing here imports Airflow: whoever mounts the application hands in a `Host`, which knows who is
asking, what they may do, and how to have a run started.
"""

from nightshift.web.app import create
from nightshift.web.host import Act, Host, User
