"""Writes `chat.json`, what transformers renders for every conversation of `tests.chat_cases`.

python -m tests.golden.make_chat
"""

import json

import transformers

from tests.chat_cases import CASES, transformers_rendering
from tests.golden import FOLDER

if __name__ == "__main__":
    prompts = {name: transformers_rendering(template, case) for name, (template, case) in CASES.items()}
    made_by = {"made by": f"transformers {transformers.__version__}", "prompts": prompts}
    (FOLDER / "chat.json").write_text(json.dumps(made_by, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(prompts)} prompts")
