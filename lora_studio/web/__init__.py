"""The page: Gradio lives here and nowhere else. Handlers translate; they do not compute."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is first imported
