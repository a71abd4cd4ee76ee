"""Entry of the page: `python app.py`, or a Hugging Face Space, which runs this file as main."""

from lora_studio.web.server import serve

if __name__ == "__main__":
    serve()
