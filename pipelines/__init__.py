"""The pipeline as a Prefect flow over DVC's stages. Never imports torch.

Importing this package sets what Prefect and the others read from the environment at their import, and lets
Python collect garbage rarely.
"""

import os

from components.core.process import collect_rarely, end_at_once

end_at_once()

from components.tracking.store import prepare_environment  # noqa: E402

collect_rarely()
prepare_environment()
# The temporary server needs longer than the 20 s it is given when the machine is busy.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
