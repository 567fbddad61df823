//! Sums and collections of tensors: on the device where the processes are connected there, else through the host.

use burn::tensor::{Tensor, TensorData, TensorPrimitive, backend::Backend};

use crate::collective::{DeviceCollective, DeviceTensor};
use crate::{CollectiveError, Processes};

/// An operation of a [`DeviceCollective`].
type OnDevice = fn(&dyn DeviceCollective, DeviceTensor) -> Result<Result<DeviceTensor, DeviceTensor>, CollectiveError>;

impl Processes {
    /// The length of each process's part of a tensor of this length. The last parts are filled up with zeros.
    pub fn part_length(&self, length: usize) -> usize {
        length.div_ceil(self.size())
    }

    /// The sum of a tensor over the processes.
    ///
    /// # Errors
    /// If the library fails.
    pub fn sum<B: Backend>(&self, tensor: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError> {
        let length = tensor.dims()[0];
        // One process sums each part, so that the sums have the same bits in all processes.
        let part = self.reduce_scatter(tensor)?;
        self.all_gather(part, length)
    }

    /// This process's part of the sum of a tensor over the processes, of [`Self::part_length`].
    ///
    /// # Errors
    /// If the library fails.
    pub fn reduce_scatter<B: Backend>(&self, tensor: Tensor<B, 1>) -> Result<Tensor<B, 1>, CollectiveError> {
        if self.is_alone() {
            return Ok(tensor);
        }
        let (length, device) = (tensor.dims()[0], tensor.device());
        let part = self.part_length(length);
        let tensor = padded(tensor, part * self.size());
        let tensor = match self.on_device(tensor, |device, tensor| device.reduce_scatter(tensor))? {
            Ok(summed) => return Ok(summed),
            Err(tensor) => tensor,
        };
        let mut sums = vec![0.0; part];
        let values = numbers(tensor);
        self.watched(|collective| collective.reduce_scatter(&values, &mut sums))?;
        Ok(Tensor::from_data(TensorData::new(sums, [part]), &device))
    }

    /// A tensor of `length` from the parts of all processes.
    ///
    /// # Errors
    /// If the library fails.
    pub fn all_gather<B: Backend>(&self, part: Tensor<B, 1>, length: usize) -> Result<Tensor<B, 1>, CollectiveError> {
        if self.is_alone() {
            return Ok(part);
        }
        let device = part.device();
        let part = match self.on_device(part, |device, tensor| device.all_gather(tensor))? {
            Ok(all) => return Ok(all.narrow(0, 0, length)),
            Err(part) => part,
        };
        let all = self.all_gather_numbers(&numbers(part))?;
        Ok(Tensor::<B, 1>::from_data(TensorData::new(all[..length].to_vec(), [length]), &device))
    }

    /// The same with numbers of the host.
    ///
    /// # Errors
    /// If the library fails.
    pub fn all_gather_numbers(&self, part: &[f32]) -> Result<Vec<f32>, CollectiveError> {
        let mut all = vec![0.0_f32; part.len() * self.size()];
        self.all_gather_words(bytemuck::cast_slice(part), bytemuck::cast_slice_mut(&mut all))?;
        Ok(all)
    }

    /// This process's part of a tensor that all of them have.
    pub fn part_of<B: Backend>(&self, tensor: Tensor<B, 1>) -> Tensor<B, 1> {
        if self.is_alone() {
            return tensor;
        }
        let part = self.part_length(tensor.dims()[0]);
        padded(tensor, part * self.size()).narrow(0, self.rank() * part, part)
    }

    /// Tries an operation on the device; the inner `Err` is the tensor if there is none.
    fn on_device<B: Backend>(
        &self,
        tensor: Tensor<B, 1>,
        operation: OnDevice,
    ) -> Result<Result<Tensor<B, 1>, Tensor<B, 1>>, CollectiveError> {
        if self.collective.on_device().is_none() {
            return Ok(Err(tensor));
        }
        let tensor: DeviceTensor = Box::new(tensor.into_primitive().tensor());
        let done = self.watched(|collective| match collective.on_device() {
            Some(device) => operation(device, tensor),
            None => Ok(Err(tensor)),
        })?;
        let back = |tensor: DeviceTensor| {
            let primitive = tensor.downcast::<B::FloatTensorPrimitive>();
            primitive.map(|primitive| Tensor::from_primitive(TensorPrimitive::Float(*primitive)))
        };
        let wrong = |_| CollectiveError::Message("a tensor changed its backend".into());
        Ok(match done {
            Ok(tensor) => Ok(back(tensor).map_err(wrong)?),
            Err(tensor) => Err(back(tensor).map_err(wrong)?),
        })
    }
}

fn padded<B: Backend>(tensor: Tensor<B, 1>, length: usize) -> Tensor<B, 1> {
    let missing = length - tensor.dims()[0];
    if missing == 0 {
        return tensor;
    }
    let zeros = Tensor::zeros([missing], &tensor.device());
    Tensor::cat(vec![tensor, zeros], 0)
}

fn numbers<B: Backend>(tensor: Tensor<B, 1>) -> Vec<f32> {
    let data = tensor.into_data();
    match data.as_slice::<f32>() {
        Ok(numbers) => numbers.to_vec(),
        Err(_) => data.iter::<f32>().collect(),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::threads;

    fn numbers_of(rank: usize, length: usize) -> Vec<f32> {
        (0..length).map(|i| ((i * 7 + rank * 13) as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn sums_of_any_length_are_those_of_one_process_and_the_same_everywhere() {
        for (size, length) in [(1, 5), (2, 8), (2, 7), (3, 1), (3, 100), (5, 12)] {
            let summed: Vec<(Vec<f32>, Vec<f32>)> = std::thread::scope(|scope| {
                let running: Vec<_> = threads(size)
                    .into_iter()
                    .map(|one| {
                        scope.spawn(move || {
                            let processes = Processes::new(Box::new(one), |_| {});
                            let data = TensorData::new(numbers_of(processes.rank(), length), [length]);
                            let tensor = Tensor::<Flex, 1>::from_data(data, &Default::default());
                            let sum = processes.sum(tensor).unwrap();
                            let part = processes.part_of(sum.clone());
                            assert_eq!(part.dims()[0], processes.part_length(length));
                            let whole = processes.all_gather(part, length).unwrap();
                            (numbers(sum), numbers(whole))
                        })
                    })
                    .collect();
                running.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let expected: Vec<f64> =
                (0..length).map(|i| (0..size).map(|rank| f64::from(numbers_of(rank, length)[i])).sum()).collect();
            for (sum, whole) in &summed {
                assert_eq!(sum, whole);
                assert!(sum.iter().zip(&summed[0].0).all(|(a, b)| a.to_bits() == b.to_bits()));
                assert!(sum.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{sum:?}");
            }
        }
    }
}
