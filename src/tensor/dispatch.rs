//! Code that is the same for many element types, written once.

/// A `match` over a [`DType`](super::DType), in which a name stands for each integer type, each floating-point type, or each
/// of both (`number`). What follows is matched first, so that single types can have code of their own.
///
/// ```text
/// dispatch!(tensor.dtype(), number T => read::<T>(tensor), DType::Bool => …, DType::String => …)
/// ```
macro_rules! dispatch {
    ($dtype:expr, number $T:ident => $number:expr, $($other:pat => $run:expr),+ $(,)?) => {
        $crate::tensor::dispatch!(
            $dtype, integer $T => $number, float $T => $number, $($other => $run),+
        )
    };
    (
        $dtype:expr, integer $I:ident => $integer:expr, float $F:ident => $float:expr,
        $($other:pat => $run:expr),+ $(,)?
    ) => {
        $crate::tensor::dispatch!(
            @arms $dtype; [$($other => $run),+];
            U8 $I u8 => $integer, U16 $I u16 => $integer, U32 $I u32 => $integer, U64 $I u64 => $integer,
            I8 $I i8 => $integer, I16 $I i16 => $integer, I32 $I i32 => $integer, I64 $I i64 => $integer,
            F16 $F ::half::f16 => $float, Bf16 $F ::half::bf16 => $float, F32 $F f32 => $float, F64 $F f64 => $float
        )
    };
    ($dtype:expr, integer $I:ident => $integer:expr, $($other:pat => $run:expr),+ $(,)?) => {
        $crate::tensor::dispatch!(
            @arms $dtype; [$($other => $run),+];
            U8 $I u8 => $integer, U16 $I u16 => $integer, U32 $I u32 => $integer, U64 $I u64 => $integer,
            I8 $I i8 => $integer, I16 $I i16 => $integer, I32 $I i32 => $integer, I64 $I i64 => $integer
        )
    };
    (
        @arms $dtype:expr; [$($other:pat => $run:expr),+];
        $($variant:ident $T:ident $rust:ty => $element:expr),+
    ) => {
        match $dtype {
            $($other => $run,)+
            $(
                // One of those in front may stand for it.
                #[allow(unreachable_patterns)]
                $crate::tensor::DType::$variant => {
                    type $T = $rust;
                    $element
                }
            )+
        }
    };
}

pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use crate::tensor::{DType, Element};

    fn described(dtype: DType) -> &'static str {
        dispatch!(
            dtype,
            integer T => <T as Element>::DTYPE.oip_name(),
            float T => <T as Element>::DTYPE.numpy_name(),
            DType::I64 => "one of its own",
            DType::Bool | DType::String => "another",
        )
    }

    #[test]
    fn each_type_has_its_own_code_and_the_others_come_first() {
        assert_eq!(described(DType::U16), "UINT16");
        assert_eq!(described(DType::I8), "INT8");
        assert_eq!(described(DType::I64), "one of its own");
        assert_eq!(described(DType::Bf16), "bfloat16");
        assert_eq!(described(DType::F64), "float64");
        assert_eq!(described(DType::Bool), "another");
    }
}
