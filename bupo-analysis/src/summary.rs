//! The JSON summary. docs/analysis.md documents its fields.

use serde_json::{Value, json};

use crate::analysis::Analysis;
use crate::slice::Slice;

/// Version of the summary's layout.
const SCHEMA: u32 = 1;

/// The results of some models, with means over all tokens. `complete` is whether all requested responses were measured.
pub fn summary(analyses: &[Analysis], complete: bool) -> Value {
    json!({
        "schema": SCHEMA,
        "bupo": env!("CARGO_PKG_VERSION"),
        "complete": complete,
        "models": analyses.iter().map(model).collect::<Vec<_>>(),
    })
}

fn model(analysis: &Analysis) -> Value {
    let info = &analysis.info;
    let boundary = analysis.boundary.as_ref().map(|boundary| {
        json!({
            "layer": boundary.layer,
            "sure": boundary.is_stable(),
            "reason": boundary.reason(),
            "certainty": boundary.certainty(),
            "share": boundary.share,
            "others": boundary.others.iter().map(|(layer, share)| json!({"layer": layer, "share": share})).collect::<Vec<_>>(),
            "at_half_tolerance": boundary.at_other_tolerances.0,
            "at_twice_tolerance": boundary.at_other_tolerances.1,
            "phases": boundary.phases(),
        })
    });
    let stages = analysis.boundary.as_ref().map(|boundary| {
        let named = boundary.stages.named().into_iter();
        named.map(|(name, from, to)| json!({"stage": name, "from": from, "to": to})).collect::<Vec<_>>()
    });
    json!({
        "model": info.model,
        "norm": info.norm,
        "num_layers": info.num_layers,
        "vocab_size": info.vocab_size,
        "tolerance": info.tolerance * (info.vocab_size as f64).ln(),
        "settings": info.settings,
        "warning": analysis.unreadable(),
        "responses": analysis.responses,
        "tokens": analysis.tokens,
        "scored": analysis.scored,
        "mean_score": analysis.mean_score,
        "stages": stages,
        "boundary": boundary,
        "convergence": analysis.convergence.map(|convergence| {
            json!({"verdict": convergence, "text": convergence.describe()})
        }),
        "measures": analysis.rows.iter().filter(|row| row.slice == Slice::All).map(|row| json!({
            "site": row.site,
            "statistic": row.statistic,
            "mean": row.estimate.mean,
            "low": row.estimate.interval.map(|(low, _)| low),
            "high": row.estimate.interval.map(|(_, high)| high),
        })).collect::<Vec<_>>(),
    })
}
