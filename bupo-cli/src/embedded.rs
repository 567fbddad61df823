//! The embedded model: a transformer of 1 M parameters trained on arithmetic.

use bupo_models::ModelFiles;

/// Its name in output. It is used without `--model`.
pub const EMBEDDED_NAME: &str = "the embedded model";

pub const EMBEDDED: ModelFiles = ModelFiles::Embedded(&[
    ("config.json", include_bytes!("../../models/arithmetic-1m/config.json")),
    ("generation_config.json", include_bytes!("../../models/arithmetic-1m/generation_config.json")),
    ("tokenizer.json", include_bytes!("../../models/arithmetic-1m/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../models/arithmetic-1m/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../../models/arithmetic-1m/model.safetensors")),
]);
