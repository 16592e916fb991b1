"""Names whose import the text tells, by whatever way it came."""


def test_the_name_of_a_fallback_import_is_known(read):
    source = "try:\n    from trl import SFTConfig as C\nexcept ImportError:\n    C = None\nC(a=1)\n"
    source += "import transformers\nD = transformers.TrainingArguments\nD()"
    assert [call.name for call in read(source)] == ["SFTConfig", "TrainingArguments"]
    source = "def make_TrainingArguments(): pass\nmake_TrainingArguments()\n"
    source += "MyConfig(a=1)\nlora = LoraConfig(r=8)"
    assert read(source) == []
