"""make_page.py GQA_JS MODEL OUT: the web page as one file: the style sheet, the scripts, the
WebAssembly module (inside GQA_JS) and the model in base64, put into page.html."""
import base64
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def script(text):
    """A script element; nothing inside may look like its end."""
    return "<script>\n" + text.replace("</script", "<\\/script") + "</script>"


def main():
    gqa_js, model, out = sys.argv[1:]
    with open(model, "rb") as f:
        data = base64.b64encode(f.read()).decode()
    parts = {
        "<!-- style -->": "<style>\n" + read(f"{HERE}/page.css") + "</style>",
        "<!-- model -->": f'<script type="text/plain" id="model">{data}</script>',
        "<!-- scripts -->": "\n".join(
            script(read(path)) for path in (gqa_js, f"{HERE}/model.js", f"{HERE}/page.js")),
    }
    page = read(f"{HERE}/page.html")
    for mark, text in parts.items():
        page = page.replace(mark, text)
    with open(out, "w", encoding="utf-8") as f:
        f.write(page)


main()
