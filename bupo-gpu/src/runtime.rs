//! Tensors of a generic backend as those of a runtime, and back.

use std::any::{Any, TypeId};
use std::cell::Cell;
use std::sync::OnceLock;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// The environment variable that turns the kernels on.
const SWITCH: &str = "BUPO_KERNELS";

/// A runtime that kernels are compiled for.
pub(crate) enum Kind {
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda,
}

thread_local! {
    static CHOICE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether the kernels are turned on: by `BUPO_KERNELS=on` in the environment, or by [`with_kernels`]. They are off by default
/// until they have run on an NVIDIA card.
pub fn turned_on() -> bool {
    static ASKED: OnceLock<bool> = OnceLock::new();
    let asked = || *ASKED.get_or_init(|| std::env::var(SWITCH).is_ok_and(|value| value == "on"));
    CHOICE.get().unwrap_or_else(asked)
}

/// Whether the kernels are [`turned_on`], and a backend's tensors are those of CUDA or WGPU, without Burn's fusion.
pub fn runs<B: Backend>() -> bool {
    turned_on() && kind_of::<B>().is_some()
}

/// Calls `f` with the kernels turned on or off on this thread.
pub fn with_kernels<T>(on: bool, f: impl FnOnce() -> T) -> T {
    let before = CHOICE.replace(Some(on));
    let result = f();
    CHOICE.set(before);
    result
}

/// Whether a backend's tensors are those of CUDA, without Burn's fusion.
#[cfg(feature = "cuda")]
pub fn is_cuda<B: Backend>() -> bool {
    matches!(kind_of::<B>(), Some(Kind::Cuda))
}

pub(crate) fn kind_of<B: Backend>() -> Option<Kind> {
    let primitive = TypeId::of::<B::FloatTensorPrimitive>();
    #[cfg(feature = "wgpu")]
    if primitive == TypeId::of::<CubeTensor<cubecl::wgpu::WgpuRuntime>>() {
        return Some(Kind::Wgpu);
    }
    #[cfg(feature = "cuda")]
    if primitive == TypeId::of::<CubeTensor<cubecl::cuda::CudaRuntime>>() {
        return Some(Kind::Cuda);
    }
    None
}

/// Evaluates an expression with `$R` as the runtime of the backend `$B`, which [`runs`] must have said yes to.
macro_rules! on_runtime {
    ($B:ty, $R:ident, $body:expr) => {
        match $crate::runtime::kind_of::<$B>() {
            #[cfg(feature = "wgpu")]
            Some($crate::runtime::Kind::Wgpu) => {
                type $R = cubecl::wgpu::WgpuRuntime;
                $body
            }
            #[cfg(feature = "cuda")]
            Some($crate::runtime::Kind::Cuda) => {
                type $R = cubecl::cuda::CudaRuntime;
                $body
            }
            None => panic!("kernels are called for backends that they run on"),
        }
    };
}
pub(crate) use on_runtime;

/// A tensor of the runtime, its values one after another.
pub(crate) fn take<B: Backend, R: CubeRuntime, const D: usize>(tensor: Tensor<B, D>) -> CubeTensor<R> {
    taken(tensor.into_primitive().tensor())
}

/// A tensor of the runtime that may be written to: a copy if it is shared.
pub(crate) fn take_mut<B: Backend, R: CubeRuntime, const D: usize>(tensor: Tensor<B, D>) -> CubeTensor<R> {
    let tensor = take::<B, R, D>(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Integers of the runtime.
pub(crate) fn take_int<B: Backend, R: CubeRuntime, const D: usize>(tensor: Tensor<B, D, Int>) -> CubeTensor<R> {
    taken(tensor.into_primitive())
}

fn taken<R: CubeRuntime>(primitive: impl Any) -> CubeTensor<R> {
    into_contiguous(of_runtime(primitive))
}

/// A tensor of the runtime as it lies in memory.
#[cfg(feature = "cuda")]
pub(crate) fn take_strided<B: Backend, R: CubeRuntime, const D: usize>(tensor: Tensor<B, D>) -> CubeTensor<R> {
    of_runtime(tensor.into_primitive().tensor())
}

fn of_runtime<R: CubeRuntime>(primitive: impl Any) -> CubeTensor<R> {
    let primitive: Box<dyn Any> = Box::new(primitive);
    let Ok(tensor) = primitive.downcast::<CubeTensor<R>>() else { panic!("a tensor of the backend's runtime") };
    *tensor
}

/// A runtime's tensor as one of the backend.
pub(crate) fn give<B: Backend, R: CubeRuntime, const D: usize>(tensor: CubeTensor<R>) -> Tensor<B, D> {
    let tensor: Box<dyn Any> = Box::new(tensor);
    let Ok(primitive) = tensor.downcast::<B::FloatTensorPrimitive>() else { panic!("a tensor of the backend") };
    Tensor::from_primitive(TensorPrimitive::Float(*primitive))
}
