//! Matrix products on CUDA.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::cuda::CudaRuntime;
use cubek::matmul::components::tile::TileMatmulKind::Mma;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError, TilingBlueprint};
use cubek::matmul::launch::launch_tiling::{launch_ref, launch_ref_tma};
use cubek::matmul::routines::double_buffering::{CyclicDoubleBufferingAlgorithm, DoubleBufferingArgs};
use cubek::matmul::routines::ordered_double_buffering::{OrderedDoubleBufferingAlgorithm, OrderedSelectionArgs};
use cubek::matmul::routines::simple::{SimpleAlgorithm, SimpleArgs};
use cubek::matmul::routines::specialized::{SpecializedAlgorithm, SpecializedStrategy};
use cubek::matmul::routines::{BlueprintStrategy, Routine};
use cubek::std::InputBinding;

use crate::cube::empty;
use crate::runtime::{give, take_strided};

type Matrix = CubeTensor<CudaRuntime>;

/// Rows, columns and inner length from which on loads of the next tiles overlap with products.
const LARGE: usize = 256;
/// The most rows of a decoding step's products, which are cut into small tiles so that all of the card has work.
const FEW_ROWS: usize = 256;
/// Columns from which on such a product has tiles enough.
const MANY_COLUMNS: usize = 1 << 13;
/// Bytes that the bulk copies of tiles are aligned to.
const ALIGNMENT: usize = 16;

/// `lhs rhs` of matrices or of batches of them, which may be transposed, with sums in f32 and a result of `dtype`.
///
/// The kernel is chosen by the sizes: Burn would compile and time up to 20 for each kind of shape, which takes a minute where half
/// of them need the headers of asynchronous copies.
pub fn matmul<B: Backend, const D: usize>(lhs: Tensor<B, D>, rhs: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    let (left, right) = (lhs.dims(), rhs.dims());
    let sizes @ [rows, columns, inner] = [left[D - 2], right[D - 1], left[D - 1]];
    // By vectors Burn has few candidates.
    if sizes.contains(&0) || sizes.contains(&1) {
        return lhs.matmul(rhs).cast(dtype);
    }
    // Batches of one are used for all.
    let mut shape: [usize; D] = std::array::from_fn(|axis| left[axis].max(right[axis]));
    (shape[D - 2], shape[D - 1]) = (rows, columns);
    let [lhs, rhs] = [lhs, rhs].map(take_strided::<B, CudaRuntime, D>);
    let out = empty(&lhs, Shape::new(shape), dtype);
    let product = Product { lhs: &lhs, rhs: &rhs, out: &out };
    let is_one = shape[..D - 2].iter().product::<usize>() == 1;
    let done = if columns < LARGE || inner < LARGE {
        false
    } else if is_one && rows <= FEW_ROWS {
        product.of_few_rows(columns)
    } else if rows < LARGE {
        false
    } else if is_one && lhs.dtype != DType::F32 && product.is_aligned() {
        product.by_bulk_copies()
    } else {
        product.by_double_buffers()
    };
    if done || product.by_tiles() {
        return give(out);
    }
    // Cards without tensor cores.
    let product: Tensor<B, D> = give::<B, CudaRuntime, D>(lhs).matmul(give(rhs));
    product.cast(dtype)
}

struct Product<'a> {
    lhs: &'a Matrix,
    rhs: &'a Matrix,
    out: &'a Matrix,
}

impl Product<'_> {
    /// For any sizes.
    fn by_tiles(&self) -> bool {
        self.launch::<SimpleAlgorithm>(SimpleArgs { multi_rows: false, tile_matmul: Mma })
    }

    fn by_double_buffers(&self) -> bool {
        self.launch::<CyclicDoubleBufferingAlgorithm>(DoubleBufferingArgs { specialized: false, tile_matmul: Mma })
    }

    fn of_few_rows(&self, columns: usize) -> bool {
        let row_count = if columns < MANY_COLUMNS { 4 } else { 8 };
        self.launch::<OrderedDoubleBufferingAlgorithm>(OrderedSelectionArgs {
            partition_k: Some(2),
            row_count: Some(row_count),
            rows_per_plane: Some(2),
            tile_matmul: Mma,
        })
    }

    /// By bulk copies of tiles (TMA), which cards from Hopper on have.
    fn by_bulk_copies(&self) -> bool {
        let strategy = BlueprintStrategy::Inferred(SpecializedStrategy { tile_matmul: Mma });
        let [lhs, rhs] = self.inputs();
        let out = self.out.clone().binding();
        let done =
            launch_ref_tma::<_, SpecializedAlgorithm>(&self.out.client, lhs, rhs, out, &strategy, &mut self.dtypes());
        done.is_ok() || self.by_double_buffers()
    }

    /// Whether rows, or columns where those are contiguous, begin at multiples of [`ALIGNMENT`].
    fn is_aligned(&self) -> bool {
        [self.lhs, self.rhs, self.out].into_iter().all(|matrix| {
            let strides = matrix.meta.strides();
            let [row, column] = [strides[strides.len() - 2], strides[strides.len() - 1]];
            row.min(column) == 1 && row.max(column) * matrix.dtype.size() % ALIGNMENT == 0
        })
    }

    fn launch<A: Routine<(), Blueprint = TilingBlueprint>>(&self, arguments: A::Strategy) -> bool {
        let strategy = BlueprintStrategy::Inferred(arguments);
        let [lhs, rhs] = self.inputs();
        let out = self.out.clone().binding();
        let done: Result<(), MatmulSetupError> =
            launch_ref::<_, A>(&self.out.client, lhs, rhs, out, &strategy, &mut self.dtypes());
        done.is_ok()
    }

    fn inputs(&self) -> [InputBinding<CudaRuntime>; 2] {
        [self.lhs, self.rhs].map(|matrix| InputBinding::new(matrix.clone().binding(), matrix.dtype.into()))
    }

    fn dtypes(&self) -> MatmulElems {
        MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: self.lhs.dtype.into(),
            rhs: self.rhs.dtype.into(),
            out: self.out.dtype.into(),
        })
    }
}
