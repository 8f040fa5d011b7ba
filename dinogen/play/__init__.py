"""The playground: a page in the browser that draws with a generator. `page` and `answers` alone know Gradio."""
