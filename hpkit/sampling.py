"""What a language model writes: texts drawn from it, and its likeliest answer."""

import inspect

from hpkit.corpus.marks import first_token_id


def sample(model, tokenizer, count: int, max_new_tokens: int, seed: int) -> list[str]:
    """`count` texts drawn at temperature 1 from the model's own distribution.

    Each goes from its first token to its end mark. All randomness comes from `seed`; the caller's
    random state and the model's mode are as before afterwards.
    """
    import torch

    start = first_token_id(tokenizer.bos_token_id, tokenizer.eos_token_id)
    prompts = torch.full((count, 1), start, device=model.device)
    # A model may come with settings of its own for sampling: these put them out of force.
    settings = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    settings["eos_token_id"] = tokenizer.eos_token_id
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokens = continued(model, tokenizer, prompts, max_new_tokens, **settings)
    return tokenizer.batch_decode(tokens, skip_special_tokens=True)


def likeliest(
    model, tokenizer, prompt: list[int], max_new_tokens: int, stop_tokens: list[int]
) -> str:
    """What the model says after the tokens `prompt`, always the likeliest, until one to stop at."""
    import torch

    prompts = torch.tensor([prompt], device=model.device)
    settings = dict(do_sample=False)
    if stop_tokens:
        settings["eos_token_id"] = stop_tokens
    tokens = continued(model, tokenizer, prompts, max_new_tokens, **settings)
    return tokenizer.decode(tokens[0], skip_special_tokens=True)


def continued(model, tokenizer, prompts, max_new_tokens: int, **settings):
    """The tokens that transformers' `generate` puts behind `prompts` (count x tokens).

    `settings` go to it as they are. The model's mode is as before afterwards.
    """
    was_training = model.training
    model.eval()
    try:
        cache = _roomy_cache(model)
        if cache is not None:
            settings["past_key_values"] = cache
        tokens = model.generate(
            prompts,
            # Without a mask, generate takes prompts of padding tokens for padding.
            attention_mask=prompts.new_ones(prompts.shape),
            max_new_tokens=max_new_tokens,
            pad_token_id=first_token_id(tokenizer.pad_token_id, tokenizer.eos_token_id),
            use_cache=True,  # the Trainer has switched it off in the model's config
            **settings,
        )
    finally:
        model.train(was_training)
    return tokens[:, prompts.shape[1] :]


def _roomy_cache(model):
    """A cache for `generate` with room for the tokens to come.

    None for a model that keeps anything else than the keys and values of all tokens.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        """transformers' own layer copies all that it holds for every token: a third of the time
        that sampling takes. This one is copied when it is full, into twice the room.
        """

        room = None

        def update(self, keys, values, *args, **kwargs):
            before = self.get_seq_length()
            after = before + keys.shape[-2]
            if self.room is None or after > self.room[0].shape[-2]:
                held = super().update(keys, values, *args, **kwargs)
                self.room = [torch.cat([part, torch.empty_like(part)], dim=-2) for part in held]
            else:
                self.room[0][..., before:after, :] = keys
                self.room[1][..., before:after, :] = values
            self.keys = self.room[0][..., :after, :]
            self.values = self.room[1][..., :after, :]
            return self.keys, self.values

    cache = DynamicCache(config=model.config)
    # peft's model hands everything on to the one inside, and its signature says nothing.
    inside = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes_cache = "past_key_values" in inspect.signature(inside.forward).parameters
    if not takes_cache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.layers = [RoomyLayer() for _ in cache.layers]
    return cache
