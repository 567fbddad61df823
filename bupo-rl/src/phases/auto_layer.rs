//! `layer = "auto"`: the boundary layer of the exploration stage (arXiv 2512.19673, section 4), found on the first rollouts.

use bupo_analysis::{Analysis, AnalysisInfo, Boundary, DEFAULT_TOLERANCE, MeasureAccumulator};
use bupo_core::Norm;
use bupo_eval::Group;
use bupo_models::{Decoder, MeasureOptions};
use burn::tensor::backend::Backend;

use crate::RlError;

/// The number of responses the boundary layer is computed from.
const RESPONSES: usize = 64;

/// The boundary layer on the first responses of `groups`; `None` if dynamic sampling left none.
pub(crate) fn find_boundary<B: Backend>(decoder: &Decoder<B>, groups: &[Group]) -> Result<Option<Boundary>, RlError> {
    let mut accumulator = MeasureAccumulator::default();
    let first: Vec<_> = groups.iter().flat_map(Group::scored_sequences).take(RESPONSES).collect();
    if first.is_empty() {
        return Ok(None);
    }
    accumulator.measure(decoder, &first, MeasureOptions::default(), &|_| ())?;
    let info = AnalysisInfo {
        model: String::new(),
        title: String::new(),
        norm: Norm::None,
        num_layers: decoder.layers.len(),
        vocab_size: decoder.vocab_size(),
        tolerance: DEFAULT_TOLERANCE,
        settings: Default::default(),
    };
    Ok(Analysis::new(info, &accumulator)?.boundary)
}
