"""The processor of Qwen2-VL without the part for videos, because only this part requires torchvision.

Pipelines pass only texts and images to the processor.
"""

from typing import Any

from transformers import ProcessorMixin, Qwen2VLProcessor


class ImageTextProcessor(Qwen2VLProcessor):  # type: ignore[misc]
    """A Qwen2VLProcessor that cannot process videos.

    Without torchvision, this processor processes images with Pillow.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id, self.video_token_id = (
            tokenizer.convert_tokens_to_ids(token) for token in (self.image_token, self.video_token)
        )
        # Not the constructor of Qwen2VLProcessor, which requires a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
