//! How similar the states of layers are: to those of the last layer, and to those of the same layer of another model on the same
//! tokens. By the cosine of each token's states, and by linear CKA over all response tokens ([`bupo_core::linear_cka`]).
//!
//! A bootstrap resample counts response r w_r times. Matrices of every resample would have to be kept, so the CKA of a resample is
//! its first-order expansion about w = 1, `CKA + sum over r of (w_r - 1) dCKA/dw_r` (the infinitesimal jackknife's): with `S` the sum
//! of the centred products of states, and `P_r` the part of response r in it,
//!
//! ```text
//! dCKA/dw_r = CKA (2 <S_xy, P_xy,r> / |S_xy|^2 - <S_xx, P_xx,r> / |S_xx|^2 - <S_yy, P_yy,r> / |S_yy|^2)
//! ```

use bupo_core::{Covariance, CovarianceSum, PolicySite, cosines, linear_cka};
use bupo_models::{Decoder, ScoredSequence, Sequence, layer_states};
use burn::tensor::{Tensor, backend::Backend};

use crate::accumulator::Sums;
use crate::bootstrap::{Estimate, Resamples};
use crate::measuring::batches;
use crate::{Analysis, AnalysisError, Row, Slice, Statistic};

/// The similarities of the layers' states over responses.
#[derive(Debug, Clone)]
pub struct LayerSimilarity {
    /// Of each response.
    lengths: Vec<usize>,
    /// By statistic, with a column per layer.
    values: Vec<(Statistic, Sums)>,
}

impl LayerSimilarity {
    /// Compares the layers of `decoder` on responses, in two passes: the first sums the products of states, the second how much each
    /// response adds to a CKA, for intervals. `base`: a model with as many layers of the same width. In memory are the states of a
    /// batch at all layers, and two matrices of `[hidden, hidden]` per layer, four with `base`. `go_on` is told how many responses of
    /// a pass were read, after each batch; the result is `None` if it returns false.
    ///
    /// # Errors
    /// If there are no responses, one is empty, or an id is outside the vocabulary.
    pub fn measure<B: Backend>(
        decoder: &Decoder<B>,
        base: Option<&Decoder<B>>,
        responses: &[ScoredSequence],
        go_on: &dyn Fn(usize) -> bool,
    ) -> Result<Option<Self>, AnalysisError> {
        let lengths: Vec<usize> = responses.iter().map(|response| response.sequence.response.len()).collect();
        let layers = decoder.layers.len();
        let passes = Passes {
            decoder: decoder.for_many_rows(layers),
            base: base.map(|base| base.for_many_rows(layers)),
            responses,
            batches: batches(responses),
            go_on,
        };
        let table = || Table { values: vec![0.0; lengths.len() * layers], layers, lengths: &lengths };
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from);
        let mut sums = References::<CovarianceSum<B>>::new(layers, base.is_some());
        let (mut cosine_to_last, mut cosine_to_base) = (table(), table());
        let is_summed = passes.read(|batch, states| {
            for states in states {
                sums.add(&states);
                let LayerStates { layer, x, last, z } = states;
                cosine_to_last.add(batch, layer, wide(cosines(x.clone(), last)));
                if let Some(z) = z {
                    cosine_to_base.add(batch, layer, wide(cosines(x, z)));
                }
            }
        })?;
        if !is_summed {
            return Ok(None);
        }
        let covariances = sums.finish().ok_or(AnalysisError::Empty)?;
        let ckas = covariances.ckas();
        let tokens = lengths.iter().sum();
        let (mut cka_to_last, mut cka_to_base) = (table(), table());
        let is_derived = passes.read(|batch, states| {
            let form =
                |states: &LayerStates<B>| covariances.own[states.layer].forms(states.x.clone(), states.x.clone());
            let own: Vec<Vec<f32>> = states.iter().map(form).collect();
            for LayerStates { layer, x, last, z } in states {
                let both = covariances.to_last[layer].forms(x.clone(), last);
                cka_to_last.add(
                    batch,
                    layer,
                    ckas.to_last[layer].derivatives([&both, &own[layer], &own[layers - 1]], tokens),
                );
                if let (Some(z), Some([to_base, of_base]), Some(ckas)) = (z, &covariances.base, &ckas.base) {
                    let (both, of_z) = (to_base[layer].forms(x, z.clone()), of_base[layer].forms(z.clone(), z));
                    cka_to_base.add(batch, layer, ckas[layer].derivatives([&both, &own[layer], &of_z], tokens));
                }
            }
        })?;
        if !is_derived {
            return Ok(None);
        }
        let mut values = vec![
            (Statistic::CosineToLast, cosine_to_last.by_token()),
            (Statistic::CkaToLast, cka_to_last.by_response(&ckas.to_last)),
        ];
        if let Some(ckas) = &ckas.base {
            values.push((Statistic::CosineToBase, cosine_to_base.by_token()));
            values.push((Statistic::CkaToBase, cka_to_base.by_response(ckas)));
        }
        Ok(Some(Self { values, lengths }))
    }

    /// Of a statistic, `[layer][response]`: a cosine summed over the response's tokens; of a CKA, values whose mean is the CKA and
    /// whose mean over resampled responses is that of the resample. Empty if it was not measured.
    pub fn values(&self, statistic: Statistic) -> Vec<Vec<f64>> {
        let Some((_, sums)) = self.values.iter().find(|(measured, _)| *measured == statistic) else {
            return Vec::new();
        };
        let column = |layer: usize| sums.values.iter().skip(layer).step_by(sums.columns).copied().collect();
        (0..sums.columns).map(column).collect()
    }
}

impl Analysis {
    /// Adds the similarities of the layers, over all tokens. A CKA that is not defined, as of one token, has no row.
    pub fn add_similarity(&mut self, similarity: &LayerSimilarity) {
        let resamples = Resamples::new(similarity.lengths.len());
        for (statistic, sums) in &similarity.values {
            for (index, estimate) in resamples.estimates(sums).into_iter().enumerate() {
                let is_cka = matches!(statistic, Statistic::CkaToLast | Statistic::CkaToBase);
                // The first-order expansion can leave the bounds of a CKA.
                let bounded =
                    |(low, high): (f64, f64)| if is_cka { (low.max(0.0), high.min(1.0)) } else { (low, high) };
                self.rows.extend(estimate.map(|estimate| Row {
                    site: PolicySite::Layer(index + 1),
                    statistic: *statistic,
                    slice: Slice::All,
                    estimate: Estimate { interval: estimate.interval.map(bounded), ..estimate },
                    responses: similarity.lengths.len(),
                    tokens: similarity.lengths.iter().sum(),
                }));
            }
        }
    }
}

/// The mean cosine and the linear CKA of two sets of states at the same positions, `[positions, hidden]`.
pub fn state_similarity<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>) -> (f64, f64) {
    let cosines = cosines(x.clone(), y.clone());
    let mean = cosines.iter().copied().map(f64::from).sum::<f64>() / cosines.len() as f64;
    let squared_norm = |x: &Tensor<B, 2>, y: &Tensor<B, 2>| {
        let mut sum = CovarianceSum::default();
        sum.add(x.clone(), y.clone());
        sum.finish().map_or(f64::NAN, |covariance| covariance.squared_norm())
    };
    (mean, linear_cka([squared_norm(&x, &y), squared_norm(&x, &x), squared_norm(&y, &y)]))
}

/// What is read in each pass.
struct Passes<'a, B: Backend> {
    decoder: Decoder<B>,
    base: Option<Decoder<B>>,
    responses: &'a [ScoredSequence],
    /// Indices of responses.
    batches: Vec<Vec<usize>>,
    go_on: &'a dyn Fn(usize) -> bool,
}

impl<B: Backend> Passes<'_, B> {
    /// Reads the states of all layers, batch by batch. Returns whether all were read.
    fn read(&self, mut each: impl FnMut(&[usize], Vec<LayerStates<B>>)) -> Result<bool, AnalysisError> {
        for batch in &self.batches {
            let sequences: Vec<Sequence> = batch.iter().map(|index| self.responses[*index].sequence.clone()).collect();
            let own = layer_states(&self.decoder, &sequences)?;
            let base = self.base.as_ref().map(|base| layer_states(base, &sequences)).transpose()?;
            let layer = |(index, x): (usize, &Tensor<B, 2>)| LayerStates {
                layer: index,
                x: x.clone(),
                last: own[own.len() - 1].clone(),
                z: base.as_ref().map(|base| base[index].clone()),
            };
            each(batch, own.iter().enumerate().map(layer).collect());
            if !(self.go_on)(batch.len()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The states of a batch at one layer, `[tokens, hidden]`.
struct LayerStates<B: Backend> {
    /// From 0.
    layer: usize,
    x: Tensor<B, 2>,
    /// Those of the last layer.
    last: Tensor<B, 2>,
    /// Those of the same layer of the other model.
    z: Option<Tensor<B, 2>>,
}

/// Covariances by layer: of its states, of them with those of the last layer, and if there is another model of them with its, and
/// of its states.
struct References<C> {
    own: Vec<C>,
    to_last: Vec<C>,
    base: Option<[Vec<C>; 2]>,
}

/// CKAs by layer: to the last layer, and to the other model.
struct Ckas {
    to_last: Vec<Cka>,
    base: Option<Vec<Cka>>,
}

impl<B: Backend> References<CovarianceSum<B>> {
    fn new(layers: usize, has_base: bool) -> Self {
        let sums = || vec![CovarianceSum::default(); layers];
        Self { own: sums(), to_last: sums(), base: has_base.then(|| [sums(), sums()]) }
    }

    fn add(&mut self, states: &LayerStates<B>) {
        let LayerStates { layer, x, last, z } = states;
        self.own[*layer].add(x.clone(), x.clone());
        self.to_last[*layer].add(x.clone(), last.clone());
        if let (Some(z), Some([to_base, of_base])) = (z, &mut self.base) {
            to_base[*layer].add(x.clone(), z.clone());
            of_base[*layer].add(z.clone(), z.clone());
        }
    }

    /// `None` if nothing was added.
    fn finish(self) -> Option<References<Covariance<B>>> {
        let finish =
            |sums: Vec<CovarianceSum<B>>| sums.into_iter().map(CovarianceSum::finish).collect::<Option<Vec<_>>>();
        let base = match self.base {
            Some([to_base, of_base]) => Some([finish(to_base)?, finish(of_base)?]),
            None => None,
        };
        Some(References { own: finish(self.own)?, to_last: finish(self.to_last)?, base })
    }
}

impl<B: Backend> References<Covariance<B>> {
    fn ckas(&self) -> Ckas {
        let norms =
            |covariances: &[Covariance<B>]| covariances.iter().map(Covariance::squared_norm).collect::<Vec<_>>();
        let (own, to_last) = (norms(&self.own), norms(&self.to_last));
        let last = own[own.len() - 1];
        let to_last = to_last.iter().zip(&own).map(|(both, x)| Cka::new([*both, *x, last])).collect();
        let base = self.base.as_ref().map(|[to_base, of_base]| {
            let pairs = norms(to_base).into_iter().zip(norms(of_base));
            pairs.zip(&own).map(|((both, y), x)| Cka::new([both, *x, y])).collect()
        });
        Ckas { to_last, base }
    }
}

/// A CKA and the squared norms of the covariances that it is made of: of both, of x and of y.
struct Cka {
    value: f64,
    norms: [f64; 3],
}

impl Cka {
    fn new(norms: [f64; 3]) -> Self {
        Self { value: linear_cka(norms), norms }
    }

    /// What each token adds to the CKA if it counts once more, from the tokens' forms ([`Covariance::forms`]) of both, x and y.
    fn derivatives<'a>(&'a self, forms: [&'a [f32]; 3], tokens: usize) -> impl Iterator<Item = f64> + 'a {
        let part = move |place: usize, index: usize| f64::from(forms[index][place]) / self.norms[index];
        (0..forms[0].len())
            .map(move |place| self.value * (2.0 * part(place, 0) - part(place, 1) - part(place, 2)) / tokens as f64)
    }
}

/// Sums over each response's tokens, by layer.
struct Table<'a> {
    /// `[responses, layers]`.
    values: Vec<f64>,
    layers: usize,
    lengths: &'a [usize],
}

impl Table<'_> {
    /// Adds the values of the tokens of a batch of responses, one response after another.
    fn add(&mut self, batch: &[usize], layer: usize, mut values: impl Iterator<Item = f64>) {
        for response in batch {
            let sum: f64 = values.by_ref().take(self.lengths[*response]).sum();
            self.values[response * self.layers + layer] += sum;
        }
    }

    /// For means over tokens.
    fn by_token(self) -> Sums {
        let counts = self.lengths.iter().map(|length| *length as f64).collect();
        Sums { values: self.values, columns: self.layers, counts }
    }

    /// From the derivatives of CKAs, values of each response whose mean over resampled responses is the CKA of the resample.
    fn by_response(self, ckas: &[Cka]) -> Sums {
        let responses = self.lengths.len();
        let value =
            |(index, derivative): (usize, &f64)| ckas[index % self.layers].value + responses as f64 * derivative;
        let values = self.values.iter().enumerate().map(value).collect();
        Sums { values, columns: self.layers, counts: vec![1.0; responses] }
    }
}
