"""Numbers of parameters that were published, exact to the last one, for models of the catalogue.

A number is all weights as kvsim has them: a tied head once, encoders included, no buffers. Where the
published number counts something else too, the difference is written out. "safetensors" is the count in the
metadata of the model's page, https://huggingface.co/api/models/<id>, field safetensors.total; a page shows it
rounded as "Model size".

Looked up, in copies of that metadata or in the files named below: bloom, deepseek, falcon, gpt-oss, gpt2,
gpt2-xl, kimi-k2, llama 2 and 3.1, mistral-large, mixtral-8x22b, olmo 2, opt-350m, phi-3-medium, pythia-14m,
qwen3-0.6b, qwen3-coder, smollm3, starcoder, aya, gemma-3-27b, whisper-large-v3, t5-11b, flan-t5-xxl, mbart.
The others are known from the models' pages and from num_parameters() as training logs print it. None was
computed from the catalogue.

Of the catalogue's other models no exact number was at hand: opt-66b, mpt-30b, tiny_starcoder_py (164M; its
model.safetensors of 656,601,304 bytes is 4 * 164,144,128 and a header), phi-1 (1.3B; phi-1_5, which has its
shapes, has 1,418,270,720).
"""

PARAMETERS = {
    # num_parameters() of transformers' GPT2LMHeadModel. safetensors counts the causal masks [1024, 1024]
    # too, which every layer of these checkpoints stores: gpt2's 137,022,720 - 12 * 1024 * 1024.
    "distilgpt2": 81_912_576,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    # num_parameters() of OPTForCausalLM, less the two rows before position 0 that kvsim does not read.
    "opt-125m": 125_239_296 - 2 * 768,
    "opt-350m": 331_196_416 - 2 * 1024,
    # safetensors; bloom's also in https://github.com/huggingface/huggingface.js, parse-safetensors-metadata.spec.ts
    "bloom-560m": 559_214_592,
    "bloom": 176_247_271_424,
    # falcon-rw-1b: https://github.com/keras-team/keras-hub, falcon_presets.py. The others: safetensors, less
    # the head that is stored a second time (tied: the embedding's 65,024 rows).
    "falcon-rw-1b": 1_311_625_216,
    "falcon-7b": 7_217_189_760 - 65_024 * 4544,
    "falcon-40b": 41_835_970_560 - 65_024 * 8192,
    "falcon-180b": 179_522_565_120 - 65_024 * 14_848,
    # num_parameters() of the model classes, as training logs and model cards print it
    "gpt-j-6b": 6_050_882_784,
    "gpt-neox-20b": 20_554_567_680,  # the model card's n_parameters
    "mpt-7b": 6_649_286_656,
    "starcoder": 15_517_456_384,
    # https://huggingface.co/EleutherAI/pythia-12b, table of exact counts; 14m: https://github.com/Lightning-AI/litgpt,
    # tests/test_utils.py
    "pythia-14m": 14_067_712,
    "pythia-12b": 11_846_072_320,
    # safetensors
    "phi-2": 2_779_683_840,
    "phi-3-mini-4k-instruct": 3_821_079_552,
    "phi-3-medium-4k-instruct": 13_960_238_080,
    "phi-4": 14_659_507_200,
    # safetensors, less the tables of rotary frequencies that these checkpoints store (64 numbers a layer)
    "llama-2-7b-hf": 6_738_417_664 - 32 * 64,
    "llama-2-13b-hf": 13_015_866_880 - 40 * 64,
    "llama-2-70b-hf": 68_976_653_312 - 80 * 64,
    # safetensors
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "smollm-135m": 134_515_008,
    "smollm2-135m": 134_515_008,
    "smollm2-1.7b": 1_711_376_384,
    "smollm3-3b": 3_075_098_624,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-large-instruct-2407": 122_610_069_504,
    "mixtral-8x7b-v0.1": 46_702_792_704,
    "mixtral-8x22b-v0.1": 140_620_634_112,
    "qwen2-0.5b": 494_032_768,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 751_632_384 - 151_936 * 1024,  # its tied head is stored a second time
    "qwen3-8b": 8_190_735_360,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-coder-480b-a35b-instruct": 480_154_875_392,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b-pt": 999_885_952,
    # less what is not the text model: the SigLIP encoder, and the projection [1152, 5376] with its norm
    "gemma-3-27b-pt": 27_432_406_640 - 416_866_032 - (1152 * 5376 + 1152),
    "olmo-2-0425-1b": 1_484_916_736,
    "olmo-2-0325-32b": 32_234_279_936,
    "c4ai-command-r-v01": 34_980_831_232,
    "c4ai-command-r-plus": 103_810_674_688,
    "aya-23-8b": 8_028_033_024,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v2": 235_741_434_880,
    # general.parameter_count of their GGUF files (https://ollama.com/library, parameter_size): the stored
    # mxfp4 blocks, the fp8 scales and DeepSeek-V3's layer for multi-token prediction make other numbers.
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "deepseek-v3": 671_026_419_200,
    "deepseek-r1": 671_026_419_200,
    "kimi-k2-instruct": 1_026_408_232_448,
    # num_parameters(), the sinusoidal positions of the encoder included, as kvsim lists them
    "whisper-tiny": 37_760_640,
    "whisper-large-v3": 1_543_490_560,
    # safetensors, and for t5-11b num_parameters(); the token table of both stacks once; flan-t5's heads are not tied
    "t5-small": 60_506_624,
    "t5-11b": 11_307_321_344,
    "flan-t5-small": 76_961_152,
    "flan-t5-xxl": 11_135_332_352,
    # num_parameters() of the ForConditionalGeneration classes: without the head's bias, which is a buffer there,
    # and with two rows before position 0 in either stack, which kvsim does not read
    "bart-base": 139_420_416 + 50_265 - 4 * 768,
    "bart-large": 406_291_456 + 50_265 - 4 * 1024,
    "mbart-large-50": 610_879_488 + 250_054 - 4 * 1024,
}
