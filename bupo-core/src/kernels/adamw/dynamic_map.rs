//! The dynamic quantization map of 8-bit moments (arXiv 2110.02861, section 2.1; `create_dynamic_map` of bitsandbytes).

use std::sync::LazyLock;

/// Numbers that share a largest absolute value, as in bitsandbytes.
pub const BLOCK: usize = 256;
/// Decades of the map: a code has one to seven bits that say its power of ten, and the fraction has the rest.
const DECADES: usize = 7;

static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(true));
static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(false));

/// 256 numbers in [-1, 1] or [0, 1], ascending, by which the numbers of a block over their largest absolute value are coded. They
/// are denser near 0: a decade has twice as many as the one below.
#[derive(Debug)]
pub struct DynamicMap {
    values: [f32; 256],
    /// Between neighbours; the last is above all.
    midpoints: [f32; 256],
}

impl DynamicMap {
    /// The map of numbers of either sign, for first moments.
    pub fn signed() -> &'static Self {
        &SIGNED
    }

    /// The map of numbers of at least 0, for second moments.
    pub fn unsigned() -> &'static Self {
        &UNSIGNED
    }

    fn new(is_signed: bool) -> Self {
        let mut all = vec![0.0, 1.0];
        for decade in 0..DECADES {
            let scale = 10.0_f64.powi(decade as i32 + 1 - DECADES as i32) as f32;
            for mean in means(1 << (decade + usize::from(!is_signed))) {
                all.push(scale * mean);
                if is_signed {
                    all.push(-scale * mean);
                }
            }
        }
        all.sort_by(f32::total_cmp);
        let mut values = [0.0; 256];
        values.copy_from_slice(&all);
        let mut midpoints = [f32::INFINITY; 256];
        for (midpoint, pair) in midpoints.iter_mut().zip(values.windows(2)) {
            *midpoint = ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
        }
        Self { values, midpoints }
    }

    /// The numbers by code.
    pub fn values(&self) -> &[f32; 256] {
        &self.values
    }

    /// The bounds between neighbouring codes; the last is infinite.
    pub(super) fn midpoints(&self) -> &[f32; 256] {
        &self.midpoints
    }

    /// The code of the nearest number.
    #[inline(always)]
    pub fn code(&self, x: f32) -> u8 {
        let mut code = 0;
        for bit in [128, 64, 32, 16, 8, 4, 2, 1] {
            if x > self.midpoints[(code + bit - 1) & 255] {
                code += bit;
            }
        }
        code as u8
    }

    /// Codes a block; returns its largest absolute value.
    #[inline(always)]
    pub fn encode(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let absmax = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let divisor = absmax.max(f32::MIN_POSITIVE);
        for (code, value) in codes.iter_mut().zip(values) {
            *code = self.code(value / divisor);
        }
        absmax
    }

    /// The numbers of a block.
    #[inline(always)]
    pub fn decode(&self, codes: &[u8], absmax: f32, values: &mut [f32]) {
        for (value, code) in values.iter_mut().zip(codes) {
            *value = self.values[usize::from(*code)] * absmax;
        }
    }
}

/// The middles of `count` equal parts of [0.1, 1], in the arithmetic of `torch.linspace` in f32.
fn means(count: usize) -> Vec<f32> {
    let (start, end) = (0.1_f32, 1.0_f32);
    let step = (end - start) / count as f32;
    let bound = |i: usize| {
        let (before, after) = (i as f32, (count - i) as f32);
        if i < count.div_ceil(2) { step.mul_add(before, start) } else { (-step).mul_add(after, end) }
    };
    (0..count).map(|i| (bound(i) + bound(i + 1)) / 2.0).collect()
}
