/* oneDNN's convolutions as foreign functions of XLA's. `vlga_jax/network/onednn.py` compiles, loads and registers them.

   Images and outputs are [batch, height, width, channels], kernels [side, side, channels, out_channels]; stride 1,
   padding 'same', side odd. Operands are both float32 or both bfloat16; products are added up, and results are, in
   float32. Convolutions that were met are kept with the code that oneDNN made for them.

   XLA calls from any of its threads, one of them after the other. GOMP would keep a team of its own for each, so the
   larger convolutions are handed to one thread that lives here; the smaller ones need no team. */

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <xmmintrin.h>

#include "oneapi/dnnl/dnnl.h"
#include "xla/ffi/api/c_api.h"

#define ALIGNMENT 64         /* bytes */
#define ALONE_FLOPS 2e7      /* of a convolution, below which waking other threads costs more than they save */
#define FLUSH_DENORMALS 0x8040 /* of results and of operands, as XLA does in its threads */
#ifndef CONVOLUTIONS_KEPT /* a test keeps fewer */
#define CONVOLUTIONS_KEPT 512
#endif
#define TRY(call) do { dnnl_status_t tried = (call); if (tried != dnnl_success) { status = tried; goto end; } } while (0)

/* OpenMP's, which oneDNN brings along; its header belongs to one compiler. */
extern int omp_get_max_threads(void), omp_get_thread_limit(void);
extern void omp_set_dynamic(int), omp_set_max_active_levels(int), omp_set_num_threads(int);

typedef struct {
  int64_t batch, height, width, channels, out_channels, side, is_gradient;
  dnnl_data_type_t type; /* of the operands */
} Shape;

/* A primitive that computes with a kernel, or its gradient, in oneDNN's own order, and one that reorders it.

   They use the workspace as their scratchpad: oneDNN's own belongs to the thread that made the primitive, and barriers
   of another thread hang in it. */
typedef struct Convolution {
  Shape shape;
  size_t own_bytes, scratch_bytes; /* of the kernel in oneDNN's order; of the larger scratchpad */
  dnnl_primitive_t convolution, reorder;
  dnnl_memory_t images, outputs, kernel, own, scratch, reorder_scratch;
  struct Convolution *next; /* used less lately */
} Convolution;

typedef struct {
  Shape shape;
  void *images, *kernel, *outputs;
  dnnl_status_t status;
  int is_done;
} Job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows: one convolution takes all cores */
static int num_threads = 1;
static dnnl_engine_t engine;
static dnnl_stream_t stream;
static Convolution *convolutions; /* the one used last comes first */
static char *workspace;
static size_t workspace_bytes;

static pthread_mutex_t desk = PTHREAD_MUTEX_INITIALIZER; /* of the job that is handed over */
static pthread_cond_t handed = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static Job *job;

static void destroy(Convolution *c) {
  if (c->convolution) dnnl_primitive_destroy(c->convolution);
  if (c->reorder) dnnl_primitive_destroy(c->reorder);
  dnnl_memory_t memories[] = {c->images, c->outputs, c->kernel, c->own, c->scratch, c->reorder_scratch};
  for (int i = 0; i < 6; i++)
    if (memories[i]) dnnl_memory_destroy(memories[i]);
  free(c);
}

static dnnl_status_t make(Shape s, Convolution **made) {
  dnnl_status_t status = dnnl_success;
  dnnl_memory_desc_t images = NULL, outputs = NULL, kernel = NULL, any = NULL, any_gradient = NULL;
  dnnl_primitive_desc_t forward = NULL, backward = NULL, reorder = NULL;
  dnnl_primitive_attr_t attributes = NULL;
  Convolution *c = calloc(1, sizeof *c);
  if (!c) return dnnl_out_of_memory;
  c->shape = s;

  dnnl_dims_t of_images = {s.batch, s.channels, s.height, s.width};
  dnnl_dims_t of_outputs = {s.batch, s.out_channels, s.height, s.width};
  dnnl_dims_t of_kernel = {s.out_channels, s.channels, s.side, s.side};
  dnnl_dims_t hwio = {1, s.out_channels, s.side * s.channels * s.out_channels, s.channels * s.out_channels};
  dnnl_data_type_t kernel_type = s.is_gradient ? dnnl_f32 : s.type, outputs_type = s.is_gradient ? s.type : dnnl_f32;
  dnnl_dims_t ones = {1, 1}, zeros = {0, 0}, reach = {s.side / 2, s.side / 2};
  TRY(dnnl_primitive_attr_create(&attributes));
  TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
  TRY(dnnl_primitive_attr_set_fpmath_mode(attributes, dnnl_fpmath_mode_strict));
  TRY(dnnl_memory_desc_create_with_tag(&images, 4, of_images, s.type, dnnl_nhwc));
  TRY(dnnl_memory_desc_create_with_tag(&outputs, 4, of_outputs, outputs_type, dnnl_nhwc));
  TRY(dnnl_memory_desc_create_with_tag(&any, 4, of_kernel, s.type, dnnl_format_tag_any));
  TRY(dnnl_memory_desc_create_with_tag(&any_gradient, 4, of_kernel, dnnl_f32, dnnl_format_tag_any));
  TRY(dnnl_memory_desc_create_with_strides(&kernel, 4, of_kernel, kernel_type, hwio));
  TRY(dnnl_convolution_forward_primitive_desc_create(
      &forward, engine, s.is_gradient ? dnnl_forward_training : dnnl_forward_inference, dnnl_convolution_direct, images,
      any, NULL, outputs, ones, zeros, reach, reach, attributes));
  if (s.is_gradient)
    TRY(dnnl_convolution_backward_weights_primitive_desc_create(
        &backward, engine, dnnl_convolution_direct, images, any_gradient, NULL, outputs, ones, zeros, reach, reach,
        forward, attributes));
  dnnl_primitive_desc_t chosen = s.is_gradient ? backward : forward;
  const_dnnl_memory_desc_t own =
      dnnl_primitive_desc_query_md(chosen, s.is_gradient ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
  c->own_bytes = dnnl_memory_desc_get_size(own);
  TRY(dnnl_primitive_create(&c->convolution, chosen));
  TRY(dnnl_reorder_primitive_desc_create(&reorder, s.is_gradient ? own : kernel, engine, s.is_gradient ? kernel : own,
                                         engine, attributes));
  TRY(dnnl_primitive_create(&c->reorder, reorder));
  TRY(dnnl_memory_create(&c->images, images, engine, DNNL_MEMORY_NONE));
  TRY(dnnl_memory_create(&c->outputs, outputs, engine, DNNL_MEMORY_NONE));
  TRY(dnnl_memory_create(&c->kernel, kernel, engine, DNNL_MEMORY_NONE));
  TRY(dnnl_memory_create(&c->own, own, engine, DNNL_MEMORY_NONE));
  const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0);
  const_dnnl_memory_desc_t reorder_scratch = dnnl_primitive_desc_query_md(reorder, dnnl_query_scratchpad_md, 0);
  TRY(dnnl_memory_create(&c->scratch, scratch, engine, DNNL_MEMORY_NONE));
  TRY(dnnl_memory_create(&c->reorder_scratch, reorder_scratch, engine, DNNL_MEMORY_NONE));
  size_t bytes = dnnl_memory_desc_get_size(scratch), reorder_bytes = dnnl_memory_desc_get_size(reorder_scratch);
  c->scratch_bytes = bytes > reorder_bytes ? bytes : reorder_bytes;
  *made = c;

end:
  if (status != dnnl_success) destroy(c);
  dnnl_primitive_desc_t descriptions[] = {forward, backward, reorder};
  for (int i = 0; i < 3; i++)
    if (descriptions[i]) dnnl_primitive_desc_destroy(descriptions[i]);
  dnnl_memory_desc_t layouts[] = {images, outputs, kernel, any, any_gradient};
  for (int i = 0; i < 5; i++)
    if (layouts[i]) dnnl_memory_desc_destroy(layouts[i]);
  if (attributes) dnnl_primitive_attr_destroy(attributes);
  return status;
}

static int same(Shape a, Shape b) {
  return a.batch == b.batch && a.height == b.height && a.width == b.width && a.channels == b.channels &&
         a.out_channels == b.out_channels && a.side == b.side && a.is_gradient == b.is_gradient && a.type == b.type;
}

/* Finds the convolution of a shape, or makes it, and puts it first; the last is let go of where there are too many. */
static dnnl_status_t find(Shape shape, Convolution **found) {
  Convolution **link = &convolutions;
  int kept = 0;
  while (*link && !same((*link)->shape, shape)) {
    if (++kept == CONVOLUTIONS_KEPT) {
      destroy(*link);
      *link = NULL;
    } else {
      link = &(*link)->next;
    }
  }
  if (*link) {
    *found = *link;
    *link = (*found)->next;
  } else {
    dnnl_status_t status = make(shape, found);
    if (status != dnnl_success) return status;
  }
  (*found)->next = convolutions;
  convolutions = *found;
  return dnnl_success;
}

static dnnl_status_t compute(const Job *j) {
  dnnl_status_t status = dnnl_success;
  Convolution *c = NULL;
  TRY(find(j->shape, &c));
  size_t own_bytes = (c->own_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  size_t bytes = (own_bytes + c->scratch_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (bytes > workspace_bytes) {
    free(workspace);
    workspace_bytes = 0;
    workspace = aligned_alloc(ALIGNMENT, bytes);
    if (!workspace) TRY(dnnl_out_of_memory);
    workspace_bytes = bytes;
  }
  TRY(dnnl_memory_set_data_handle(c->images, j->images));
  TRY(dnnl_memory_set_data_handle(c->kernel, j->kernel));
  TRY(dnnl_memory_set_data_handle(c->outputs, j->outputs));
  TRY(dnnl_memory_set_data_handle(c->own, workspace));
  TRY(dnnl_memory_set_data_handle(c->scratch, workspace + own_bytes));
  TRY(dnnl_memory_set_data_handle(c->reorder_scratch, workspace + own_bytes));
  dnnl_exec_arg_t forward[] = {{DNNL_ARG_SRC, c->images},
                               {DNNL_ARG_WEIGHTS, c->own},
                               {DNNL_ARG_DST, c->outputs},
                               {DNNL_ARG_SCRATCHPAD, c->scratch}};
  dnnl_exec_arg_t backward[] = {{DNNL_ARG_SRC, c->images},
                                {DNNL_ARG_DIFF_DST, c->outputs},
                                {DNNL_ARG_DIFF_WEIGHTS, c->own},
                                {DNNL_ARG_SCRATCHPAD, c->scratch}};
  dnnl_exec_arg_t reorder[] = {{DNNL_ARG_FROM, j->shape.is_gradient ? c->own : c->kernel},
                               {DNNL_ARG_TO, j->shape.is_gradient ? c->kernel : c->own},
                               {DNNL_ARG_SCRATCHPAD, c->reorder_scratch}};
  if (j->shape.is_gradient) TRY(dnnl_primitive_execute(c->convolution, stream, 4, backward));
  TRY(dnnl_primitive_execute(c->reorder, stream, 3, reorder));
  if (!j->shape.is_gradient) TRY(dnnl_primitive_execute(c->convolution, stream, 4, forward));

end:
  return status;
}

static void *work(void *nothing) {
  _mm_setcsr(_mm_getcsr() | FLUSH_DENORMALS); /* before there is a team, which takes it over */
  omp_set_dynamic(0); /* a primitive waits for ever if it gets fewer threads than it was made for */
  omp_set_max_active_levels(1);
  omp_set_num_threads(num_threads);
  pthread_mutex_lock(&desk);
  for (;;) {
    while (!job) pthread_cond_wait(&handed, &desk);
    Job *current = job;
    job = NULL;
    pthread_mutex_unlock(&desk);
    current->status = compute(current);
    pthread_mutex_lock(&desk);
    current->is_done = 1;
    pthread_cond_signal(&done);
  }
  return nothing;
}

/* To be called once, before any other. Returns how many threads a convolution gets, 0 where oneDNN does not start. */
int vlga_onednn_start(int threads) {
  num_threads = threads < omp_get_thread_limit() ? threads : omp_get_thread_limit();
  if (dnnl_set_primitive_cache_capacity(0) != dnnl_success) return 0; /* kept here instead */
  if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success) return 0;
  if (dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) return 0;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals stay with the threads that had them */
  pthread_t worker;
  int failed = pthread_create(&worker, NULL, work, NULL) || pthread_detach(worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed ? 0 : num_threads;
}

/* Returns what oneDNN takes the processor for, of `dnnl_cpu_isa_t`; bits depend on it. */
int vlga_onednn_isa(void) { return dnnl_get_effective_cpu_isa(); }

/* Returns whether that processor multiplies bfloat16 itself. */
int vlga_onednn_has_bfloat16(void) { return !(dnnl_cpu_isa_avx512_core_bf16 & ~dnnl_get_effective_cpu_isa()); }

static dnnl_status_t run(Shape s, void *images, void *kernel, void *outputs) {
  Job own = {s, images, kernel, outputs, dnnl_success, 0};
  pthread_mutex_lock(&lock);
  if (2.0 * s.batch * s.height * s.width * s.channels * s.out_channels * s.side * s.side < ALONE_FLOPS) {
    int before = omp_get_max_threads();
    omp_set_num_threads(1);
    own.status = compute(&own);
    omp_set_num_threads(before);
  } else {
    pthread_mutex_lock(&desk);
    job = &own;
    pthread_cond_signal(&handed);
    while (!own.is_done) pthread_cond_wait(&done, &desk);
    pthread_mutex_unlock(&desk);
  }
  pthread_mutex_unlock(&lock);
  return own.status;
}

static XLA_FFI_Error *answer(XLA_FFI_CallFrame *frame, dnnl_status_t status, Shape s) {
  if (status == dnnl_success) return NULL;
  char message[256];
  snprintf(message, sizeof message, "%soneDNN status %d: images [%ld, %ld, %ld, %ld], kernel [%ld, %ld, %ld, %ld]",
           status == dnnl_out_of_memory ? "Out of memory: " : "", status, (long)s.batch, (long)s.height, (long)s.width,
           (long)s.channels, (long)s.side, (long)s.side, (long)s.channels, (long)s.out_channels);
  XLA_FFI_Error_Create_Args error = {XLA_FFI_Error_Create_Args_STRUCT_SIZE, NULL, message,
                                     status == dnnl_out_of_memory ? XLA_FFI_Error_Code_RESOURCE_EXHAUSTED
                                                                  : XLA_FFI_Error_Code_INTERNAL};
  return frame->api->XLA_FFI_Error_Create(&error);
}

/* Whether XLA only asks which version of its interface this was made for. */
static int tells_version(XLA_FFI_CallFrame *frame) {
  if (!frame->extension_start || frame->extension_start->type != XLA_FFI_Extension_Metadata) return 0;
  XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
  metadata->api_version.major_version = XLA_FFI_API_MAJOR;
  metadata->api_version.minor_version = XLA_FFI_API_MINOR;
  metadata->traits = 0;
  return 1;
}

static XLA_FFI_Error *call(XLA_FFI_CallFrame *frame, int is_gradient) {
  if (tells_version(frame)) return NULL;
  XLA_FFI_Buffer *images = frame->args.args[0], *second = frame->args.args[1], *result = frame->rets.rets[0];
  XLA_FFI_Buffer *kernel = is_gradient ? result : second, *outputs = is_gradient ? second : result;
  int64_t *of = images->dims;
  dnnl_data_type_t type = images->dtype == XLA_FFI_DataType_BF16 ? dnnl_bf16 : dnnl_f32;
  Shape shape = {of[0], of[1], of[2], of[3], kernel->dims[3], kernel->dims[0], is_gradient, type};
  return answer(frame, run(shape, images->data, kernel->data, outputs->data), shape);
}

/* (images, kernel) -> outputs */
XLA_FFI_Error *vlga_onednn_convolution(XLA_FFI_CallFrame *frame) { return call(frame, 0); }

/* (images, gradient of the outputs) -> gradient of the kernel */
XLA_FFI_Error *vlga_onednn_weight_gradient(XLA_FFI_CallFrame *frame) { return call(frame, 1); }
