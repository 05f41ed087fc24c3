"""What a recipe may say: one section a stage, one described field a setting."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ragtune.records import SETTINGS, Setting


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values are not coerced silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Documents(Section):
    """Which files are read, and within which limits."""

    folder: str = Field("documents", description="Folder of source files; relative to the recipe file.")
    include: tuple[str, ...] = Field(("**/*",), description="Glob patterns of files to read.")
    exclude: tuple[str, ...] = Field((), description="Glob patterns of files to leave out.")
    metadata: str | None = Field(None, description="JSON, JSONL or CSV file: a column 'document' and others.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds one file may take to read.")
    max_memory_mb: int = Field(4096, ge=256, description="Memory one reading process may take, in MiB.")
    workers: int = Field(0, ge=0, description="Reading processes; 0 takes one for each CPU core.")


class Index(Section):
    """How documents become searchable chunks."""

    folder: str | None = Field(None, description="Where the index folder lies; default work/NAME/index.")
    embedder: str = Field("minilm", description="'minilm' (bundled package), 'hash' (tests), a folder or a model name.")
    embedder_engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="What runs the embedder 'minilm' on a CPU; auto: OpenVINO where installed (extra 'openvino')."
    )
    chunker: str = Field("rows", description="A name in the table CHUNKERS.")
    chunk_tokens: int = Field(180, ge=16, le=8192, description="Most embedder tokens in a chunk.")
    overlap_tokens: int = Field(0, ge=0, description="Tokens of the previous chunk repeated at the start of prose chunks.")
    vectors: Literal["auto", "flat", "ivf", "hnsw"] = Field(
        "auto", description="How vectors are searched: flat is exact; ivf and hnsw pay from 400,000 chunks (auto: hnsw)."
    )
    context_line: bool = Field(True, description="Embed and index document, page, section and table head with each chunk.")

    @model_validator(mode="after")
    def _check_overlap(self) -> Index:
        if self.overlap_tokens >= self.chunk_tokens:
            raise ValueError("overlap_tokens must be smaller than chunk_tokens")
        return self


class Retrieval(Section):
    """How passages are found for a question."""

    method: str = Field("fused", description="Without the ranker: a name in the table SEARCHERS, dense, lexical or fused.")
    k: int = Field(3, ge=1, le=100, description="Passages in a prompt.")
    candidates: int = Field(50, ge=1, le=10000, description="Hits each searcher gives to the fusion.")
    dense_weight: float = Field(1.0, ge=0, description="Weight of the dense ranks in the fusion.")
    lexical_weight: float = Field(1.0, ge=0, description="Weight of the lexical (BM25) ranks in the fusion.")
    route: bool = Field(True, description="Search the documents that company, year and form in the question point to.")
    expand: tuple[str, ...] = Field(
        ("glossary",), description="Names in the table EXPANDERS: glossary, learned, multi_query, hyde, decompose, feedback."
    )
    expander: str | None = Field(
        None, description="Model that rewords questions for multi_query, hyde, decompose: as generator.model names it."
    )
    rerank: str = Field(
        "ranker", description="'ranker' (offline, over both searchers), 'none', or a cross-encoder's folder or name."
    )
    ranker: str | None = Field(
        "auto", description="The ranker's weights: 'auto' (the current ones beside the index, else the shipped) or a folder."
    )
    returns: Literal["chunk", "page"] = Field(
        "chunk", description="What is shown of a chunk found: itself, or its whole page (small to big; needs a long prompt)."
    )
    where: str | None = Field(None, description="Filter, e.g. company = '3M' and fiscal_year in (2017, 2018).")
    adapter: str | None = Field(
        None, description="Map of question vectors: null, 'auto' (the current one beside the index) or its folder."
    )


class Adapting(Section):
    """How retrieval is fitted to questions: `ragtune adapt`. What does not raise held-out recall is refused."""

    questions: str | None = Field(None, description="Question file; none: dataset.questions, else asked from statements.")
    ask_count: int = Field(2500, ge=10, description="Questions asked from statement rows where no file is given.")
    split_by: str | None = Field(None, description="What questions are held out by; none: dataset.split_by.")
    folds: int = Field(4, ge=2, le=20, description="Parts of the groups; each is measured by a fit on the others.")
    k: int = Field(5, ge=1, le=50, description="The gate: recall among the first k hits must rise.")
    max_p: float = Field(0.05, gt=0, le=1, description="The gate: most chance (McNemar) that the rise is luck; 1: any rise.")
    kinds: tuple[Literal["linear", "residual"], ...] = Field(
        ("linear",), min_length=1, description="Adapters that are tried; of those that pass, the best is kept."
    )
    hidden: int = Field(0, ge=0, description="Inner width of the residual adapter; 0 takes the dimension.")
    negatives: int = Field(32, ge=1, le=200, description="Hard negatives a question, mined from BM25 and dense hits.")
    near_duplicate: float = Field(0.98, gt=0, le=1, description="Cosine to a positive from which a negative is left out.")
    temperature: float = Field(0.05, gt=0, description="Temperature of the cosines in the loss.")
    passages: int = Field(8, ge=2, le=64, description="likelihoods: passages a question's answer is weighed after.")
    likelihood_temperature: float = Field(
        0.25, gt=0, description="likelihoods: temperature of the mean log probability a token; less is sharper."
    )
    lr: float = Field(0.001, gt=0, description="Learning rate of the adapter.")
    pull: float = Field(0.03, ge=0, description="Weight of the squared distance to the start, which keeps the map near it.")
    batch_size: int = Field(64, ge=2, description="Questions of one step.")
    epochs: int = Field(30, ge=1, description="Most passes over the questions.")
    patience: int = Field(4, ge=1, description="Passes without gain on held-out questions after which the fit ends.")
    held_out_share: float = Field(0.2, gt=0, lt=1, description="Share of the questions, by group, that stop the fit early.")
    embedder_epochs: float = Field(1.0, gt=0, description="Passes over the questions when the embedder itself is tuned.")
    embedder_lr: float = Field(2e-5, gt=0, description="Peak learning rate of the embedder.")
    embedder_batch_size: int = Field(32, ge=2, description="Questions of one step; the others' positives are negatives.")
    embedder_negatives: int = Field(1, ge=0, le=8, description="Hard negatives a question when the embedder is tuned.")
    embedder_documents: int = Field(6, ge=1, description="Held-out documents embedded anew to judge a tuned embedder.")
    seed: int = Field(0, description="Seed of every draw.")


class Generator(Section):
    """The language model that answers and is tuned. Change `model` to use a real one."""

    model: str = Field(
        "bundled", description="'bundled', 'extractive', 'echo' (tests), a folder, a Hugging Face name or provider:model."
    )
    engine: Literal["transformers", "ctranslate2"] = Field(
        "transformers", description="What runs a local model; ctranslate2 is faster on a CPU (extra 'ctranslate2')."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Number type of the weights.")
    quantization: Literal["none", "int8"] = Field(
        "none", description="int8: weights in 8 bits, a quarter of the memory, for answering with engine ctranslate2."
    )
    device: str = Field("auto", description="'auto', 'cpu', 'cuda' or 'cuda:0'.")
    max_prompt_tokens: int = Field(1100, ge=64, description="Most tokens of a rendered prompt; passages are cut to fit.")
    max_new_tokens: int = Field(96, ge=1, description="Most tokens of a completion.")
    batch_size: int = Field(8, ge=1, description="Prompts generated together.")
    base_url: str | None = Field(
        None, pattern=r"^https?://[^\s@]+$", description="For provider:model, another server of the provider's API: "
        "openai:NAME with http://localhost:8080/v1 is vLLM or llama.cpp. Its key: environment RAGTUNE_UPSTREAM_KEY."
    )

    @model_validator(mode="after")
    def _check_quantization(self) -> Generator:
        if self.quantization != "none" and self.engine != "ctranslate2":
            raise ValueError("quantization: int8 needs engine: ctranslate2")
        return self


class Answering(Section):
    """What happens between completion and answer."""

    guard: Literal["refuse", "flag", "none"] = Field(
        "refuse", description="Numbers that no cited passage holds: refuse the answer, only flag it, or do not check."
    )
    names_rows: bool = Field(True, description="Say beside the question what the passages call what it asks for.")


PRESETS: dict[str, dict[str, float]] = {
    "raft": {"gold_share": 0.8, "distractors": 4, "closed_book_share": 0.0},  # arXiv 2403.10131
    "instructlab": {"gold_share": 0.4, "distractors": 3, "closed_book_share": 0.0},  # its knowledge_p, 4 documents a prompt
    # arXiv 2310.01352: each of three passages in a row of its own. There a passage without the answer is answered all the
    # same, from memory; here it teaches the refusal, as all rows do.
    "ra_dit": {"gold_share": 0.5, "distractors": 0, "closed_book_share": 0.0, "rows_per_question": 3},
}
"""Settings of public recipes for the dataset section; a field that the recipe names itself counts before its preset's."""


class Dataset(Section):
    """How questions become tuning rows."""

    preset: Literal["raft", "instructlab", "ra_dit"] | None = Field(
        None, description="Public settings of gold_share, distractors and closed_book_share; those named here go before."
    )
    folder: str | None = Field(None, description="Where the dataset folder lies; default work/NAME/dataset.")
    questions: str | None = Field(
        None, description="Question file of ours, FinanceBench, FinQA, TAT-QA, SQuAD, CSV ..., or hf:OWNER/NAME; "
        "none: asked from tables."
    )
    ask_count: int = Field(400, ge=1, description="Questions asked from statement rows where no file is given.")
    where: str | None = Field(None, description="Filter on the documents that training questions may be about.")
    test_share: float = Field(0.34, ge=0, lt=1, description="Share of documents (or groups) kept for evaluation.")
    test_where: str | None = Field(
        None, description="Filter naming the test documents; test_share is then the share of questions asked about them."
    )
    split_by: str = Field("document", description="'document' or a metadata column: no group is on both sides.")
    gold_share: float = Field(0.8, ge=0, le=1, description="Share of answerable questions shown with their gold passage.")
    closed_book_share: float = Field(0.05, ge=0, le=1, description="Share of rows without any passage, answered by refusal.")
    distractors: int = Field(2, ge=0, le=20, description="Passages beside the gold one.")
    distractor_source: Literal["retrieved", "random"] = Field(
        "retrieved", description="Where distractors come from: the search that serves, or any page of the index."
    )
    hard_share: float | None = Field(
        None, ge=0, le=1, description="Share of hard ones among the retrieved distractors: the same owner in another "
        "document, or the same row of another owner; null: as the search ranks them."
    )
    refusal_share: float = Field(
        1.0, ge=0, le=1, description="Most training rows, as a share, that are refusals; what is more is left out."
    )
    quotes: bool = Field(
        False, description="Quote the sentences that hold an answer before it, each cited and checked against its passage."
    )
    max_kind_share: float = Field(
        1.0, gt=0, le=1, description="Most training rows, as a share, of one kind of question; what is more is left out."
    )
    near_duplicates: Literal["drop", "fail", "keep"] = Field(
        "drop", description="Training questions that ask once more what another asks: leave out, refuse to build, or keep."
    )
    rows_per_question: int = Field(1, ge=1, le=20, description="Rows a question gives, each with passages drawn anew.")
    max_dropped_share: float = Field(0.05, ge=0, le=1, description="More rows over the token budget are an error.")
    license: str = Field(
        "other", pattern=r"^[a-z0-9][a-z0-9.+-]*$", description="Licence on the dataset's card, as Hugging Face names it."
    )
    seed: int = Field(0, description="Seed of every draw.")

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values


class Pairs(Section):
    """How preference pairs are made: of tuning rows and mistakes about them, or of a run's own sampled answers.

    A share is that of the rows which give occasion to such a mistake.
    """

    folder: str | None = Field(None, description="Where the pairs folder lies; default work/NAME/pairs.")
    per_row: int = Field(3, ge=1, le=7, description="Most pairs of one row; of those possible so many are drawn.")
    neighbouring_year: float = Field(1.0, ge=0, le=1, description="Share rejected for the row's amount of another year.")
    wrong_row: float = Field(1.0, ge=0, le=1, description="Share rejected for another row of the gold passage.")
    other_company: float = Field(1.0, ge=0, le=1, description="Share rejected for another company's amount.")
    swapped_operand: float = Field(1.0, ge=0, le=1, description="Share rejected for a calculation the wrong way round.")
    wrong_citation: float = Field(1.0, ge=0, le=1, description="Share rejected for citing a passage without the row.")
    needless_refusal: float = Field(1.0, ge=0, le=1, description="Share rejected for refusing what the passages hold.")
    unsupported_answer: float = Field(1.0, ge=0, le=1, description="Share rejected for answering what they do not hold.")
    from_run: bool = Field(
        False, description="Pairs of what the tuned run itself answers to the training questions, as they would be served."
    )
    samples: int = Field(4, ge=2, le=64, description="Answers drawn from the run for each question.")
    temperature: float = Field(0.8, gt=0, le=2, description="Temperature they are drawn with.")
    top_p: float = Field(0.95, gt=0, le=1, description="They are drawn from the words that together are so probable.")
    judge: str | None = Field(
        None, description="Chat model that picks the better of two drawn answers, as --judge names it; null: the scorer."
    )
    seed: int = Field(0, description="Seed of every draw.")

    @model_validator(mode="after")
    def _check_judge(self) -> Pairs:
        if self.judge is not None and not self.from_run:
            raise ValueError("judge picks between a run's answers: set from_run to true, or judge to null")
        return self


class Preference(Section):
    """What the methods that learn from preferences weigh: `training.preference`."""

    beta: float | None = Field(
        None, gt=0, description="How close to the start the model stays (DPO, KTO, SimPO), or the odds' weight (ORPO); "
        "null: 0.1, SimPO 2.0."
    )
    margin: float = Field(1.0, ge=0, description="SimPO's target margin between the halves, gamma over beta times beta.")
    sft_weight: float = Field(0.0, ge=0, description="Weight of the chosen half's own loss beside DPO's or SimPO's.")
    desirable_weight: float = Field(1.0, gt=0, description="KTO's weight of right completions.")
    undesirable_weight: float = Field(1.0, gt=0, description="KTO's weight of wrong completions.")


class Reinforce(Section):
    """How answers are drawn, rewarded and learned from: `training.reinforce`."""

    rewards: dict[str, float] = Field(
        {"outcome": 1.0, "citation": 0.25}, min_length=1, description="Weights of the rewards, names in the table REWARDS."
    )
    reward_model: str | None = Field(None, description="Run folder of a reward model, for the reward 'model'.")
    judge: str | None = Field(None, description="Model that grades answers for the reward 'judge' (RLAIF).")
    samples: int = Field(8, ge=2, le=256, description="Answers drawn for each prompt (the group of GRPO and RLOO).")
    prompts: int = Field(8, ge=1, description="Prompts of one round of answers.")
    temperature: float = Field(1.0, gt=0, le=2, description="Temperature they are drawn with.")
    kl: float = Field(0.05, ge=0, description="Weight of the divergence from the start, in the reward (PPO, RLOO) or loss.")
    clip: float = Field(0.2, gt=0, lt=1, description="How far the ratio of probabilities may leave 1 and still count.")
    inner_epochs: int = Field(2, ge=1, description="Passes over the answers of a round.")
    gamma: float = Field(1.0, gt=0, le=1, description="PPO: discount of a later token's reward.")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="PPO: lambda of generalised advantage estimation.")
    value_weight: float = Field(0.5, ge=0, description="PPO: weight of the value head's loss.")
    value_lr: float | None = Field(None, gt=0, description="PPO: learning rate of the value head; null: ten times lr.")


class Training(Section):
    """How the generator is tuned."""

    folder: str | None = Field(None, description="Where the run folder lies; default work/NAME/run, or run-METHOD where it "
                                "refines one.")
    method: str = Field("qlora", description="A name in the table METHODS: `ragtune methods` lists them.")
    weights: str | None = Field(
        None, description="Which weights a method of preferences, reinforcement or documents tunes: a name in the table "
        "TUNABLE; null: the method's own."
    )
    start: str | None = Field(
        None, description="Run folder whose adapter is tuned further; null: for preferences and reinforcement "
        "work/NAME/run, else the base."
    )
    r: int = Field(16, ge=1, description="Rank of the LoRA matrices.")
    alpha: int = Field(32, ge=1, description="LoRA scale: the update is multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the LoRA matrices.")
    target_modules: tuple[str, ...] = Field(
        ("all-linear",), min_length=1, description="Layers that low-rank methods wrap: all-linear, or ends of their names."
    )
    last_layers: int = Field(2, ge=1, description="last_layers: how many of the model's last layers are tuned.")
    modules: tuple[str, ...] = Field(
        ("*.self_attn.*",), min_length=1, description="modules: patterns of the parameters' names that are tuned."
    )
    bottleneck: int = Field(64, ge=1, description="bottleneck: inner width of the adapters.")
    virtual_tokens: int = Field(20, ge=1, description="Soft prompts: learned tokens before the prompt.")
    lr: float | None = Field(
        None, gt=0, description="Peak learning rate; null: by method and model size (qlora: 0.001 below 50M parameters, "
        "else 0.0002)."
    )
    schedule: Literal["linear", "cosine", "warmup_stable_decay", "constant"] = Field(
        "linear", description="How the learning rate goes on after warming up."
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of steps in which the learning rate rises.")
    decay_share: float = Field(0.2, gt=0, le=1, description="warmup_stable_decay: share of steps in which it falls.")
    epochs: float = Field(2.0, gt=0, description="Passes over the training rows.")
    max_steps: int = Field(-1, ge=-1, description="Optimizer steps, of ppo, grpo, rloo rounds of answers; -1 takes epochs.")
    batch_size: int = Field(8, ge=1, description="Rows of one forward pass.")
    accumulation: int = Field(1, ge=1, description="Forward passes before an optimizer step.")
    packing: bool = Field(False, description="Put several short rows into one, which do not see each other.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the weights.")
    max_grad_norm: float = Field(1.0, gt=0, description="Longer gradients are shortened to this.")
    neftune_alpha: float | None = Field(None, gt=0, description="Noise on embeddings (NEFTune, arXiv 2310.05914); often 5.")
    eval_rows: int = Field(64, ge=0, description="Test rows whose loss is measured while training.")
    stop_patience: int = Field(
        0, ge=0, description="Measures of held-out answer accuracy without gain after which tuning ends; 0: it goes on."
    )
    stop_steps: int = Field(25, ge=1, description="Steps between these measures.")
    stop_questions: int = Field(48, ge=4, description="Questions of such a measure.")
    save_steps: int = Field(50, ge=1, description="Steps between checkpoints that a later start resumes from.")
    check_memory: bool = Field(True, description="Refuse a run whose estimated memory is more than is free.")
    gradient_checkpointing: bool = Field(False, description="Recompute activations to save memory.")
    report_to: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = Field(
        (), description="Trackers that take the curve too, each with its own package; metrics.jsonl is always written."
    )
    deepspeed: str | None = Field(None, description="DeepSpeed's configuration file, under accelerate launch.")
    seed: int = Field(0, description="Seed of initialisation and order.")
    preference: Preference = Preference()
    reinforce: Reinforce = Reinforce()


class Evaluation(Section):
    """How base and tuned are measured."""

    folder: str | None = Field(None, description="Where the evaluation folder lies; default work/NAME/evaluation.")
    questions: str | None = Field(
        None, description="Question file or hf:OWNER/NAME; none: the test questions of the dataset folder."
    )
    where: str | None = Field(None, description="Filter on the documents whose questions are asked.")
    settings: tuple[Setting, ...] = Field(SETTINGS, description="Rungs of the ladder.", min_length=1)
    baselines: tuple[Literal["extractive"], ...] = Field(
        ("extractive",), description="Readers without a language model, measured beside base and tuned; [] for none."
    )
    limit: int = Field(0, ge=0, description="Ask only the first so many questions; 0 asks all.")
    recall_at: tuple[int, ...] = Field((1, 5, 10, 20), description="k of page recall.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the intervals.")
    perplexity: bool = Field(
        False, description="Measure the references' perplexity too, under base and tuned on each rung: a pass more."
    )


class Span(Section):
    """The values a field may take in a search: from ``low`` to ``high``, or one of ``choices``."""

    low: int | float | None = Field(None, description="Least value.")
    high: int | float | None = Field(None, description="Greatest value.")
    log: bool = Field(False, description="Drawn evenly by order of magnitude.")
    step: int | float | None = Field(None, gt=0, description="Only low, low + step, low + 2 step and so on.")
    choices: tuple[bool | int | float | str | None, ...] = Field((), description="The values themselves.")

    @model_validator(mode="after")
    def _check_ends(self) -> Span:
        if bool(self.choices) == (self.low is not None or self.high is not None):
            raise ValueError("name low and high, or choices")
        if not self.choices and (self.low is None or self.high is None or self.low > self.high):
            raise ValueError("low and high are both needed, low not above high")
        if self.log and (self.step is not None or self.low is None or self.low <= 0):
            raise ValueError("log needs a low above 0, and no step")
        return self


SPACE = {
    "training.lr": Span(low=0.0001, high=0.003, log=True),
    "training.r": Span(choices=(4, 8, 16, 32)),
    "training.batch_size": Span(choices=(4, 8, 16)),
    "training.epochs": Span(low=1.0, high=3.0, step=1.0),
    "retrieval.k": Span(low=2, high=5),
    "dataset.gold_share": Span(low=0.6, high=1.0, step=0.1),
}
"""What is searched where a recipe names no space."""


class Tune(Section):
    """How settings are searched for: `ragtune tune`, on questions held out from the training side."""

    folder: str | None = Field(None, description="Where the search folder lies; default work/NAME/search.")
    space: dict[str, Span] = Field(SPACE, min_length=1, description="section.field -> low and high, or choices.")
    objective: Literal["correct", "correct_less_wrong", "loss"] = Field(
        "correct", description="What is raised: share correct, the same less the share wrong, or (lowered) the loss of "
        "held-out rows, which needs no answers."
    )
    setting: Setting = Field("retrieval", description="Rung of the ladder that is measured.")
    trials: int = Field(20, ge=1, description="Settings that are tried, the recipe's own beside them.")
    timeout_s: float | None = Field(None, gt=0, description="Seconds after which no further one is begun.")
    validation_share: float = Field(
        0.25, gt=0, lt=1, description="Share of the training side's groups (dataset.split_by) that settings are chosen by."
    )
    limit: int = Field(0, ge=0, description="Ask only the first so many of their questions; 0 asks all.")
    pruner: Literal["median", "hyperband", "none"] = Field(
        "median", description="Which trials are given up early, by the loss of held-out rows while tuning."
    )
    startup_trials: int = Field(5, ge=1, description="Trials drawn at random, and not given up, before the search learns.")
    seed: int = Field(0, description="Seed of the search and of the held-out groups.")


OFF_TOPIC = "This assistant does not answer questions of this kind."
NO_ORDERS = "This assistant answers questions; it takes no instructions about how it works."


class Topic(Section):
    """What questions may be about. Example questions count by likeness, words by standing in the question."""

    allowed: tuple[str, ...] = Field((), description="Example questions: what is like none of them is refused.")
    denied: tuple[str, ...] = Field((), description="Example questions: what is more like one of them is refused.")
    denied_words: tuple[str, ...] = Field((), description="Words or phrases that no question may hold.")
    allowed_words: tuple[str, ...] = Field((), description="Words or phrases that let a question pass, whatever it is like.")
    min_similarity: float = Field(0.2, ge=-1, le=1, description="Cosine to an allowed example from which a question passes.")
    denied_similarity: float = Field(0.5, ge=-1, le=1, description="Cosine to a denied example from which it is refused.")
    refusal: str = Field(OFF_TOPIC, min_length=1, description="What is answered instead.")


class Length(Section):
    """How long a question may be."""

    max_characters: int = Field(4000, ge=1, le=4000, description="Most characters of a question.")
    refusal: str = Field("This question is too long. Ask it in fewer words.", min_length=1,
                         description="What is answered instead.")


class PersonalData(Section):
    """Personal data in questions, passages and answers: told by form and check digits."""

    kinds: tuple[Literal["email", "phone", "iban", "card", "ssn"], ...] = Field(
        ("email", "phone", "iban", "card", "ssn"), min_length=1, description="What is looked for."
    )
    question: Literal["refuse", "mask", "none"] = Field("none", description="What is done about it in a question.")
    passages: Literal["mask", "none"] = Field("none", description="In passages, before they are read, shown or cited.")
    answer: Literal["refuse", "mask", "none"] = Field("none", description="In what the model wrote.")
    refusal: str = Field("Personal data is neither taken nor given here.", min_length=1,
                         description="What is answered instead.")


class Injection(Section):
    """Texts that address the model: in a question to be refused, in a document to be taken out."""

    question: Literal["refuse", "flag", "none"] = Field("refuse", description="What is done about it in a question.")
    passages: Literal["neutralise", "flag", "none"] = Field(
        "neutralise", description="In a passage: take the sentence out, only say so beside the answer, or do not look."
    )
    refusal: str = Field(NO_ORDERS, min_length=1, description="What is answered instead.")


class Support(Section):
    """What is said where an answer's numbers have no source (answering.guard) or, if wanted, where it cites nothing."""

    citation: bool = Field(False, description="Refuse whatever cites no passage, also what a closed-book model says.")
    refusal: str = Field("Not found in the documents.", min_length=1, description="What is answered instead.")


class Guardrails(Section):
    """Checks of questions before the search and of answers after the numbers' check; each refuses in words of its own."""

    topic: Topic = Topic()
    length: Length = Length()
    personal_data: PersonalData = PersonalData()
    injection: Injection = Injection()
    support: Support = Support()


class Server(Section):
    """How an assistant is served: `ragtune serve`."""

    host: str = Field("127.0.0.1", description="Address to listen on; others than this machine's own want keys.")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    folder: str | None = Field(None, description="Where keys, uploads, jobs and feedback lie; default work/NAME/server.")
    keys: bool | None = Field(None, description="Whether requests need an API key; null: where a key was made.")
    max_batch: int = Field(16, ge=1, description="Requests written together.")
    max_waiting: int = Field(64, ge=1, description="Requests that may wait; more are told to come again (429).")
    batch_wait_ms: float = Field(5.0, ge=0, description="How long a request waits for company, in milliseconds.")
    max_answer_tokens: int | None = Field(None, ge=1, description="Most tokens a request may ask for; null: max_new_tokens.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds a request may take.")
    requests_per_minute: int = Field(0, ge=0, description="Requests of one key (or address) a minute; 0: any number.")
    max_body_mb: int = Field(2, ge=1, description="Largest request but uploads, in MiB.")
    max_upload_mb: int = Field(64, ge=1, description="Largest upload, in MiB.")
    max_documents: int = Field(10_000, ge=1, description="Most documents of the index.")
    cors_origins: tuple[str, ...] = Field((), description="Origins of other web pages that may ask; none by default.")
    database: str | None = Field(None, description="postgresql://... for jobs and keys; null: SQLite in the folder.")
    drain_s: float = Field(30.0, ge=0, description="Seconds that running requests get when the server stops.")
    max_searches: int | None = Field(None, ge=1, description="Searches at once; null: as many as there are processors.")
    metrics: Literal["admin", "open", "off"] = Field(
        "admin", description="Who may read /metrics: keys of administrators, anybody, nobody.")
    log_questions: bool = Field(False, description="Whether the log holds the questions asked.")
    telemetry: str | None = Field(None, description="OTLP endpoint for traces, http://collector:4318 (extra 'telemetry').")


class Recipe(Section):
    """One assistant, from its documents to its measure."""

    name: str = Field("assistant", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Names its folders.")
    description: str = Field("", description="What the assistant is for.")
    work: str = Field("work", description="Folder for results; relative to the current folder.")
    pack: str = Field("finance", description="Domain pack: a shipped one's name (ragtune pack list) or a folder.")
    documents: Documents = Documents()
    index: Index = Index()
    retrieval: Retrieval = Retrieval()
    generator: Generator = Generator()
    adapting: Adapting = Adapting()
    answering: Answering = Answering()
    guardrails: Guardrails = Guardrails()
    dataset: Dataset = Dataset()
    pairs: Pairs = Pairs()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    server: Server = Server()
    tune: Tune = Tune()
