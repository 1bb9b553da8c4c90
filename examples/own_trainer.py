# %% [markdown]
# # Your own TRL trainer
#
# The multiturn-aware reward is an entry of `reward_funcs`. The trainer, its settings and its loop are yours.
# Each completion is looked ahead from with the model as it stands at that step.

# %%
from __future__ import annotations

import tempfile

import trl
from transformers import PrinterCallback

import duologue
from duologue.models.local import LocalModel

policy = LocalModel.load("tiny")  # or any transformers model and its tokenizer

# %% [markdown]
# The data set has a prompt a row, and two columns that say whose it is: `goal` names one of the task's goals,
# `visit` is the seed that fixes the user's habits and words. Yours may have more columns.

# %%
STEPS, PROMPTS, CANDIDATES = 3, 4, 4
task = duologue.load_task("groceries")
data = duologue.trl.prompts(task, STEPS * PROMPTS)

# %%
trainer = trl.GRPOTrainer(
    policy.model,
    reward_funcs=[duologue.trl.reward(task, samples=1, window=2)],
    args=trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=PROMPTS * CANDIDATES,
        num_generations=CANDIDATES,
        max_steps=STEPS,
        max_completion_length=task.max_tokens,
        learning_rate=2e-4,
        scale_rewards="batch",
        use_cpu=True,  # these four: TRL's defaults are for a GPU
        bf16=False,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
    ),
    train_dataset=data,
    processing_class=policy.tokenizer,
)
trainer.remove_callback(PrinterCallback)
trainer.train()

# %%
for entry in trainer.state.log_history:
    if "reward" in entry:
        print(f"step {entry['step']}: mean reward {float(entry['reward']):.2f}")
