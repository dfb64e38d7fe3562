"""The parameters of the smallest run that still does everything: seconds on a CPU."""

from typing import Any

# faster_rcnn with an eighth of the channels and few RoIs: what is tested here does not depend on them
NARROW = ("model.neck.out_channels=32 model.rpn_head.in_channels=32 model.rpn_head.feat_channels=32 "
          "model.roi_head.bbox_roi_extractor.out_channels=32 model.roi_head.bbox_head.in_channels=32 "
          "model.roi_head.bbox_head.fc_out_channels=64 model.train_cfg.rcnn.sampler.num=64 model.test_cfg.rpn.max_per_img=200")
SMALL: dict[str, Any] = {
    "dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 128, "epochs": 2, "batch_size": 2,
    "device": "cpu", "precision": "fp32", "overrides": NARROW,
}
